import { createMiddleware } from "hono/factory";
import { withCookies } from "./account.tsx";
import type { Deps, Env } from "./deps.ts";

/** Goes on with a session whose time is nearly over: handlers see the new one, and so does the browser. */
export function renewSession({ identity }: Deps) {
  return createMiddleware<Env>(async (c, next) => {
    const renewal = await identity.renew(c.req.raw.headers);
    if (!renewal) return await next();
    c.req.raw = new Request(c.req.raw, { headers: renewal.headers });
    await next();
    withCookies(renewal.cookies, c.res);
  });
}
