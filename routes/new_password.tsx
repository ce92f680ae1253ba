import { Hono } from "hono";
import { type MailLink, SecondFactorNeeded } from "../models/identity.ts";
import { ForgottenPassword, NewPassword, type NewPasswordProps } from "../views/new_password.tsx";
import { passwordMistake, refusal, sourceOf, withCookies } from "./account.tsx";
import type { Deps, Env } from "./deps.ts";
import { mailLinkOf } from "./mail_links.tsx";
import { formOf, goTo, page } from "./render.tsx";

/**
 * The way back in for whoever forgot their password. A link's token stands in the query, which the log
 * leaves out, and is spent by a POST alone: mail programs open links to look at them. Supabase calls it `code`,
 * or `token_hash` in one that any browser may open.
 */
export function newPasswordRoutes({ identity }: Deps) {
  const { sendsMail } = identity;
  return new Hono<Env>()
    .get("/new-password", (c) => {
      const link = linkOf(c.req.query(), c.req.query("token") ?? c.req.query("code"));
      return link
        ? page(c, "A new password", <NewPassword link={link} />)
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
      const form = await formOf(c);
      const { password = "", code } = form;
      const link = linkOf(form, form.token) ?? { token: "" };
      const asksForCode = code !== undefined;
      const again = (more: Partial<NewPasswordProps>, status: 200 | 422 | 429 = 422) =>
        page(c, "A new password", <NewPassword {...{ link, asksForCode, ...more }} />, status);
      const mistake = passwordMistake(password);
      if (mistake) return again({ mistakes: { password: mistake } });
      try {
        const wish = { link, password, code };
        const cookies = await identity.resetPassword(c.req.raw.headers, wish, sourceOf(c));
        return withCookies(cookies, goTo(c, "/sign-in", "password-set"));
      } catch (error) {
        if (error instanceof SecondFactorNeeded) {
          return withCookies(error.cookies, await again({ asksForCode: true }, 200));
        }
        const { message, status } = refusal(c, error);
        return again({ mistakes: { [asksForCode ? "code" : "link"]: message } }, status);
      }
    });
}

function linkOf(fields: Record<string, string | undefined>, token?: string): MailLink | null {
  return mailLinkOf(fields) ?? (token ? { token } : null);
}
