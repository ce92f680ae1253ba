import { createMiddleware } from "hono/factory";
import { workspacesOf } from "../models/workspaces.ts";
import { Problem } from "../views/session.tsx";
import type { Deps, Env } from "./deps.ts";
import { basePathOf, page } from "./render.tsx";

/**
 * Lets only signed-in people pass. A page sends others to sign in and back; a stream or a part of a
 * page answers 401, since a redirect would put the sign-in page inside the one that is open.
 */
export function requireUser({ db, identity }: Deps) {
  return createMiddleware<Env>(async (c, next) => {
    const person = await identity.userOf(c.req.raw.headers);
    if (!person) {
      const isPage = c.req.method === "GET" && !c.req.header("hx-request") &&
        !c.req.path.endsWith("/live");
      if (!isPage) return c.text("Sign in first", 401);
      const base = basePathOf(c);
      if (!await identity.hasAccounts()) return c.redirect(`${base}/setup`, 303);
      const { pathname, search } = new URL(c.req.url);
      const back = encodeURIComponent(pathname.slice(base.length) + search);
      return c.redirect(`${base}/sign-in${back === "%2F" ? "" : `?next=${back}`}`, 303);
    }
    const [workspace] = await workspacesOf(db, person);
    if (!workspace) {
      const message = "Your account belongs to no workspace. Ask the owner of one to invite you.";
      return page(c, "No workspace", <Problem title="No workspace" message={message} />, 403);
    }
    c.set("user", person);
    c.set("workspace", workspace);
    await next();
  });
}
