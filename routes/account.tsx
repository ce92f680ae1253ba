import { type Context, Hono } from "hono";
import { z } from "zod";
import { PASSWORD_MIN_LENGTH, SignInRefused, type SignInSource } from "../models/identity.ts";
import { Invalid } from "../models/errors.ts";
import { endStandingAccess, standingAccess } from "../models/standing_access.ts";
import { validName } from "../models/workspaces.ts";
import { Account, type AccountProps } from "../views/account.tsx";
import { Security, type SecurityProps } from "../views/account_security.tsx";
import type { Deps, Env } from "./deps.ts";
import { formOf, goTo, page } from "./render.tsx";

const SECURITY = "/account/security";

const Address = z.email().max(254);

/** A person's own account: who they are, how they sign in, and where they are signed in. */
export function accountRoutes({ db, identity, baseUrl }: Deps) {
  const { passkeys } = identity;

  return new Hono<Env>()
    .get("/account", (c) => accountPage(c))
    .post("/account/name", async (c) => {
      const { name = "" } = await formOf(c);
      try {
        await identity.rename(c.req.raw.headers, validName(name));
        return goTo(c, "/account", "name-changed");
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        return accountPage(c, { values: { name }, mistakes: error.fields });
      }
    })
    .post("/account/email", async (c) => {
      const { email = "", password = "" } = await formOf(c);
      const address = Address.safeParse(email.trim());
      const again = (mistakes: Record<string, string>, status?: 422 | 429) =>
        accountPage(c, { values: { email }, mistakes }, status);
      if (!address.success) return again({ email: "Give an email address" });
      try {
        const wish = { email: address.data, password };
        const change = await identity.changeEmail(c.req.raw.headers, wish, sourceOf(c));
        return goTo(c, "/account", change === "asked" ? "email-asked" : "email-changed");
      } catch (error) {
        const { message, status } = refusal(c, error);
        return again({ [/address/.test(message) ? "email" : "password"]: message }, status);
      }
    })
    .get(SECURITY, (c) => securityPage(c))
    .post("/account/password", async (c) => {
      const { present = "", next = "" } = await formOf(c);
      const mistake = passwordMistake(next);
      if (mistake) return await securityPage(c, { mistakes: { next: mistake } });
      return await take(c, "present", async () => {
        const passwords = { present, next };
        const cookies = await identity.changePassword(c.req.raw.headers, passwords, sourceOf(c));
        return withCookies(cookies, goTo(c, SECURITY, "password-changed"));
      });
    })
    .post("/account/second-factor", async (c) => {
      const { password = "" } = await formOf(c);
      return await take(c, "password", async () => {
        const made = await identity.makeSecondFactor(c.req.raw.headers, password, sourceOf(c));
        // In the answer to the form itself: key and backup codes are shown this once.
        return await securityPage(c, { secondFactor: made });
      });
    })
    .post("/account/second-factor/on", async (c) => {
      const { code = "" } = await formOf(c);
      return await take(c, "code", async () =>
        withCookies(
          await identity.turnOnSecondFactor(c.req.raw.headers, code, sourceOf(c)),
          goTo(c, SECURITY, "second-factor-on"),
        ));
    })
    .post("/account/second-factor/codes", async (c) => {
      const { codes = "" } = await formOf(c);
      return await take(c, "codes", async () => {
        const { headers } = c.req.raw;
        const backupCodes = await identity.renewBackupCodes?.(headers, codes, sourceOf(c));
        return await securityPage(c, { backupCodes });
      });
    })
    .post("/account/second-factor/off", async (c) => {
      const { off = "" } = await formOf(c);
      return await take(c, "off", async () =>
        withCookies(
          await identity.turnOffSecondFactor(c.req.raw.headers, off, sourceOf(c)),
          goTo(c, SECURITY, "second-factor-off"),
        ));
    })
    .post("/account/passkeys/options", async (c) => {
      const { passkeyPassword = "" } = await formOf(c);
      return await passkeyQuestion(
        c,
        passkeys?.beginAdding(c.req.raw.headers, passkeyPassword, sourceOf(c)),
      );
    })
    .post("/account/passkeys", async (c) => {
      const { answer = "", passkeyName = "" } = await formOf(c);
      return await take(c, "passkey", async () => {
        const name = validName(passkeyName, "passkey");
        await passkeys?.add(c.req.raw.headers, name, passkeyAnswer(answer), sourceOf(c));
        return goTo(c, SECURITY, "passkey-added");
      });
    })
    .post("/account/passkeys/:id", async (c) => {
      const id = c.req.param("id"), form = await formOf(c);
      return await take(c, "passkey", async () => {
        const name = validName(form[`name-${id}`] ?? "", "passkey");
        await passkeys?.rename(c.req.raw.headers, id, name);
        return goTo(c, SECURITY, "passkey-renamed");
      });
    })
    .post("/account/passkeys/:id/remove", async (c) =>
      await take(c, "passkey", async () => {
        await passkeys?.remove(c.req.raw.headers, c.req.param("id"));
        return goTo(c, SECURITY, "passkey-removed");
      }))
    .post("/account/access/end", async (c) => {
      await endStandingAccess(db, c.get("user"));
      return goTo(c, SECURITY, "access-ended");
    })
    .post("/account/sessions/:id/end", async (c) => {
      await identity.endSession(c.req.raw.headers, c.req.param("id"));
      return goTo(c, SECURITY, "session-ended");
    })
    .post("/account/sessions/end", async (c) =>
      withCookies(
        await identity.endAllSessions(c.req.raw.headers),
        goTo(c, "/sign-in", "signed-out-everywhere"),
      ));

  /** Takes a form of the security page; what is refused stands beside its field. */
  async function take(c: Context<Env>, field: string, work: () => Promise<Response>) {
    try {
      return await work();
    } catch (error) {
      if (error instanceof Invalid) return await securityPage(c, { mistakes: error.fields });
      const { message, status } = refusal(c, error);
      return await securityPage(c, { mistakes: { [field]: message } }, status);
    }
  }

  function accountPage(
    c: Context<Env>,
    more: Pick<AccountProps, "values" | "mistakes"> = {},
    status: 422 | 429 = 422,
  ) {
    const props = { person: c.get("user"), sendsMail: identity.sendsMail, ...more };
    return page(c, "Your account", <Account {...props} />, more.mistakes ? status : 200);
  }

  async function securityPage(
    c: Context<Env>,
    more: Pick<SecurityProps, "mistakes" | "secondFactor" | "backupCodes"> = {},
    status: 422 | 429 = 422,
  ) {
    const headers = c.req.raw.headers;
    const props = {
      sessions: await identity.listSessions(headers),
      standing: await standingAccess(db, c.get("user")),
      offersPasskeys: identity.elsewhere === null,
      passkeys: await passkeys?.list(headers) ?? null,
      hasSecondFactor: await identity.hasSecondFactor(headers),
      hasBackupCodes: identity.renewBackupCodes !== null,
      baseUrl: baseUrl.href.replace(/\/$/, ""),
      ...more,
    };
    return page(c, "Signing in", <Security {...props} />, more.mistakes ? status : 200);
  }
}

/** A question for the browser, as static/passkeys.js reads it. */
export async function passkeyQuestion(
  c: Context<Env>,
  asking: Promise<{ options: unknown; cookies: Headers }> | undefined,
) {
  if (!asking) return c.json({ mistake: "There are no passkeys at this address" }, 404);
  try {
    const { options, cookies } = await asking;
    return withCookies(cookies, c.json({ options }, 200, { "cache-control": "no-store" }));
  } catch (error) {
    const { message, status } = refusal(c, error);
    return c.json({ mistake: message }, status);
  }
}

/** The browser's answer, as the form carries it. */
export function passkeyAnswer(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new SignInRefused("Your browser gave no answer. Try it again");
  }
}

/** What is wrong with a password that is chosen; null when it holds. */
export function passwordMistake(password: string): string | null {
  if (password.length > 256) return "At most 256 characters";
  return password.length < PASSWORD_MIN_LENGTH
    ? `At least ${PASSWORD_MIN_LENGTH} characters`
    : null;
}

/** What was refused, for its page. @throws what is no refusal */
export function refusal(c: Context<Env>, error: unknown): { message: string; status: 422 | 429 } {
  if (!(error instanceof SignInRefused)) throw error;
  if (error.retryAfterS) c.header("retry-after", String(error.retryAfterS));
  return { message: error.message, status: error.retryAfterS ? 429 : 422 };
}

export function sourceOf(c: Context<Env>): SignInSource {
  return {
    clientIp: c.env?.clientIp ?? "unknown",
    userAgent: c.req.header("user-agent") ?? "",
  };
}

export function withCookies(cookies: Headers, response: Response): Response {
  for (const cookie of cookies.getSetCookie()) response.headers.append("set-cookie", cookie);
  return response;
}
