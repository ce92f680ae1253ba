import { type Context, Hono } from "hono";
import { z } from "zod";
import { MAIL_LINK_TYPES, type MailLink, SecondFactorNeeded } from "../models/identity.ts";
import { ConfirmLink } from "../views/mail_link.tsx";
import { refusal, withCookies } from "./account.tsx";
import type { Deps, Env } from "./deps.ts";
import { formOf, goTo, page } from "./render.tsx";
import { askForCode, localPath } from "./session.tsx";

/** Of a link that any browser may open, as `supabase/templates` writes it. */
const AnyBrowsers = z.object({
  token_hash: z.string().min(1).max(500),
  type: z.enum(MAIL_LINK_TYPES),
  email: z.email().max(254),
});

const NOT_WHOLE =
  "The link is not whole. Open it again from the mail, or ask for another one where you sign in";

/**
 * Links of mails that open in any browser. Opening one shows whose account it is of and does nothing: mail
 * programs open links to look at them, and a stranger may send a link of their own account.
 */
export function mailLinkRoutes({ identity }: Deps) {
  const { elsewhere } = identity;
  const confirmPage = async (
    c: Context<Env>,
    link: MailLink | null,
    more: { next: string; mistake?: string },
    status: 200 | 422 | 429 = 200,
  ) => {
    const signedInAs = (await identity.userOf(c.req.raw.headers))?.email ?? null;
    return page(c, "Your link", <ConfirmLink {...{ link, signedInAs, ...more }} />, status);
  };

  return new Hono<Env>()
    .get("/sign-in/confirm", (c) => {
      if (!elsewhere) return goTo(c, "/sign-in");
      const link = mailLinkOf(c.req.query());
      const next = pathAfter(c.req.query("redirect_to"));
      return link
        ? confirmPage(c, link, { next })
        : confirmPage(c, null, { next, mistake: NOT_WHOLE }, 422);
    })
    .post("/sign-in/confirm", async (c) => {
      if (!elsewhere) return goTo(c, "/sign-in");
      const form = await formOf(c);
      const link = mailLinkOf(form), next = localPath(form.next);
      if (!link) return await confirmPage(c, null, { next, mistake: NOT_WHOLE }, 422);
      const { headers } = c.req.raw;
      try {
        if (link.type !== "email_change") {
          return withCookies(await elsewhere.confirm(headers, link), goTo(c, next));
        }
        const said = await elsewhere.confirmEmail(link) === "asked"
          ? "email-half-confirmed"
          : "email-changed";
        return goTo(c, await identity.userOf(headers) ? "/account" : "/sign-in", said);
      } catch (error) {
        if (error instanceof SecondFactorNeeded) return askForCode(c, error, next);
        const { message, status } = refusal(c, error);
        return await confirmPage(c, null, { next, mistake: message }, status);
      }
    });
}

/** What a link's query, or the form that it led to, holds; null where something is missing. */
export function mailLinkOf(fields: Record<string, string | undefined>): MailLink | null {
  const link = AnyBrowsers.safeParse(fields).data;
  return link ? { token: link.token_hash, type: link.type, email: link.email } : null;
}

/** The path that whoever asked for the mail was on their way to: within our own address for callbacks. */
function pathAfter(redirectTo: string | undefined): string {
  if (!redirectTo || !URL.canParse(redirectTo)) return "/";
  return localPath(new URL(redirectTo).searchParams.get("next") ?? undefined);
}
