import { type Context, Hono } from "hono";
import { PASSWORD_MIN_LENGTH, SignInRefused, type SignInSource } from "../models/identity.ts";
import { Invalid } from "../models/errors.ts";
import { validName } from "../models/workspaces.ts";
import { Account, type AccountProps } from "../views/account.tsx";
import type { Deps, Env } from "./deps.ts";
import { formOf, goTo, page } from "./render.tsx";

/** A person's own account: name, password, and where they are signed in. */
export function accountRoutes({ identity }: Deps) {
  return new Hono<Env>()
    .get("/account", (c) => accountPage(c))
    .post("/account/name", async (c) => {
      const { name = "" } = await formOf(c);
      try {
        await identity.rename(c.req.raw.headers, validName(name));
        return goTo(c, "/account", "name-changed");
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        return await accountPage(c, { name, mistakes: error.fields });
      }
    })
    .post("/account/password", async (c) => {
      const { present = "", next = "" } = await formOf(c);
      if (next.length < PASSWORD_MIN_LENGTH || next.length > 256) {
        const message = next.length > 256
          ? "At most 256 characters"
          : `At least ${PASSWORD_MIN_LENGTH} characters`;
        return await accountPage(c, { mistakes: { next: message } });
      }
      try {
        const passwords = { present, next };
        const cookies = await identity.changePassword(c.req.raw.headers, passwords, sourceOf(c));
        return withCookies(cookies, goTo(c, "/account", "password-changed"));
      } catch (error) {
        if (!(error instanceof SignInRefused)) throw error;
        if (error.retryAfterS) c.header("retry-after", String(error.retryAfterS));
        return await accountPage(
          c,
          { mistakes: { present: error.message } },
          error.retryAfterS ? 429 : 422,
        );
      }
    })
    .post("/account/second-factor", (c) =>
      secondFactor(c, async ({ password = "" }) => {
        const made = await identity.makeSecondFactor(c.req.raw.headers, password, sourceOf(c));
        // In the answer to the form itself: key and backup codes are shown this once.
        return await accountPage(c, { secondFactor: made });
      }, "password"))
    .post("/account/second-factor/on", (c) =>
      secondFactor(c, async ({ code = "" }) =>
        withCookies(
          await identity.turnOnSecondFactor(c.req.raw.headers, code, sourceOf(c)),
          goTo(c, "/account", "second-factor-on"),
        ), "code"))
    .post(
      "/account/second-factor/off",
      (c) =>
        secondFactor(c, async ({ password = "" }) =>
          withCookies(
            await identity.turnOffSecondFactor(c.req.raw.headers, password, sourceOf(c)),
            goTo(c, "/account", "second-factor-off"),
          ), "password"),
    )
    .post("/account/sessions/:id/end", async (c) => {
      await identity.endSession(c.req.raw.headers, c.req.param("id"));
      return goTo(c, "/account", "session-ended");
    })
    .post("/account/sessions/end", async (c) =>
      withCookies(
        await identity.endAllSessions(c.req.raw.headers),
        goTo(c, "/sign-in", "signed-out-everywhere"),
      ));

  /** A form of the second factor; what is refused stands beside its field. */
  async function secondFactor(
    c: Context<Env>,
    take: (form: Record<string, string>) => Promise<Response>,
    field: string,
  ) {
    try {
      return await take(await formOf(c));
    } catch (error) {
      if (!(error instanceof SignInRefused)) throw error;
      if (error.retryAfterS) c.header("retry-after", String(error.retryAfterS));
      const mistakes = { [field]: error.message };
      return await accountPage(c, { mistakes }, error.retryAfterS ? 429 : 422);
    }
  }

  async function accountPage(
    c: Context<Env>,
    more: Pick<AccountProps, "name" | "mistakes" | "secondFactor"> = {},
    status: 422 | 429 = 422,
  ) {
    const headers = c.req.raw.headers;
    const props = {
      person: c.get("user"),
      sessions: await identity.listSessions(headers),
      hasSecondFactor: await identity.hasSecondFactor(headers),
      ...more,
    };
    return page(c, "Account", <Account {...props} />, more.mistakes ? status : 200);
  }
}

function sourceOf(c: Context<Env>): SignInSource {
  return {
    clientIp: c.env?.clientIp ?? "unknown",
    userAgent: c.req.header("user-agent") ?? "",
  };
}

function withCookies(cookies: Headers, response: Response): Response {
  for (const cookie of cookies.getSetCookie()) response.headers.append("set-cookie", cookie);
  return response;
}
