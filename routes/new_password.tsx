import { Hono } from "hono";
import { ForgottenPassword, NewPassword } from "../views/new_password.tsx";
import { passwordMistake, refusal, sourceOf, withCookies } from "./account.tsx";
import type { Deps, Env } from "./deps.ts";
import { formOf, goTo, page } from "./render.tsx";

/**
 * The way back in for whoever forgot their password. A link's token stands in the query, which the log
 * leaves out, and is spent by a POST alone: mail programs open links to look at them. Supabase calls it `code`.
 */
export function newPasswordRoutes({ identity }: Deps) {
  const { sendsMail } = identity;
  return new Hono<Env>()
    .get("/new-password", (c) => {
      const token = c.req.query("token") ?? c.req.query("code");
      return token
        ? page(c, "A new password", <NewPassword token={token} />)
        : page(c, "Forgotten password", <ForgottenPassword sendsMail={sendsMail} />);
    })
    .post("/new-password/link", async (c) => {
      const { email = "" } = await formOf(c);
      try {
        const cookies = await identity.sendPasswordLink(email.trim(), sourceOf(c));
        return withCookies(cookies, goTo(c, "/sign-in", "password-link-sent"));
      } catch (error) {
        const { message, status } = refusal(c, error);
        const props = { sendsMail, email, mistake: message };
        return page(c, "Forgotten password", <ForgottenPassword {...props} />, status);
      }
    })
    .post("/new-password", async (c) => {
      const { token = "", password = "" } = await formOf(c);
      const again = (mistakes: Record<string, string>, status: 422 | 429 = 422) =>
        page(c, "A new password", <NewPassword token={token} mistakes={mistakes} />, status);
      const mistake = passwordMistake(password);
      if (mistake) return again({ password: mistake });
      try {
        await identity.resetPassword(c.req.raw.headers, token, password, sourceOf(c));
        return goTo(c, "/sign-in", "password-set");
      } catch (error) {
        const { message, status } = refusal(c, error);
        return again({ link: message }, status);
      }
    });
}
