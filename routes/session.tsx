import { type Context, Hono } from "hono";
import { z } from "zod";
import { PASSWORD_MIN_LENGTH, SecondFactorNeeded, SignInRefused } from "../models/identity.ts";
import { Setup, SignIn, SignInCode, type SignInProps } from "../views/session.tsx";
import { passkeyAnswer, passkeyQuestion, refusal, sourceOf, withCookies } from "./account.tsx";
import type { Deps, Env } from "./deps.ts";
import { formOf, goTo, page } from "./render.tsx";

const Account = z.object({
  code: z.string().min(1, "Give the code from the console").max(40),
  email: z.email("Give an email address").max(254),
  name: z.string().trim().min(1, "Give your name").max(80, "At most 80 characters"),
  password: z.string()
    .min(PASSWORD_MIN_LENGTH, `At least ${PASSWORD_MIN_LENGTH} characters`)
    .max(256, "At most 256 characters"),
});

/** Tries at the set-up code, over all who try: 40 bits, so a hundred guesses are nothing. */
const CODE_TRIES = 100;

/** Set up, sign in, sign out. */
export function sessionRoutes({ identity, setup }: Deps) {
  const { passkeys, elsewhere } = identity;
  let triesLeft = CODE_TRIES;

  const signInPage = async (
    c: Context<Env>,
    more: Omit<SignInProps, "hasPasskeys" | "elsewhere">,
    status: 200 | 422 | 429 = 200,
  ) => {
    const props = { hasPasskeys: passkeys !== null, elsewhere: await elsewhere?.offers() ?? null };
    return page(c, "Sign in", <SignIn {...props} {...more} />, status);
  };

  const codePage = (
    c: Context<Env>,
    props: { mistake?: string; next: string },
    status: 200 | 422 | 429 = 200,
  ) => {
    const hasBackupCodes = identity.renewBackupCodes !== null;
    return page(c, "Your code", <SignInCode hasBackupCodes={hasBackupCodes} {...props} />, status);
  };

  return new Hono<Env>()
    .get("/setup", async (c) => {
      if (!setup || await identity.hasAccounts()) return goTo(c, "/sign-in");
      return page(c, "Set up", <Setup values={{}} mistakes={{}} />);
    })
    .post("/setup", async (c) => {
      if (!setup || await identity.hasAccounts()) return goTo(c, "/sign-in");
      const form = await formOf(c);
      const again = (mistakes: Record<string, string>, mistake?: string) =>
        page(
          c,
          "Set up",
          <Setup values={{ ...form, password: "" }} mistakes={mistakes} mistake={mistake} />,
          422,
        );
      const parsed = Account.safeParse(form);
      if (!parsed.success) return again(mistakesOf(parsed.error));
      const { code, email, name, password } = parsed.data;
      if (triesLeft-- <= 0) return again({}, "Too many wrong codes. Restart Mooring for a new one");
      if (!setup.check(code)) {
        return again({ code: "That is not the code on the console where Mooring was started" });
      }
      try {
        return withCookies(await identity.createAccount(email, name, password), goTo(c, "/"));
      } catch (error) {
        if (error instanceof SignInRefused) return again({}, error.message);
        throw error;
      }
    })
    .get("/sign-in", async (c) => {
      if (await identity.userOf(c.req.raw.headers)) return goTo(c, localPath(c.req.query("next")));
      if (!await identity.hasAccounts()) return goTo(c, "/setup");
      return signInPage(c, { next: localPath(c.req.query("next")) });
    })
    .post("/sign-in", async (c) => {
      const { email = "", password = "", next } = await formOf(c);
      try {
        const cookies = await identity.signIn(email.trim(), password, sourceOf(c));
        return withCookies(cookies, goTo(c, localPath(next)));
      } catch (error) {
        if (error instanceof SecondFactorNeeded) return askForCode(c, error, localPath(next));
        const { message, status } = refusal(c, error);
        return signInPage(c, { mistake: message, email, next: localPath(next) }, status);
      }
    })
    .post("/sign-in/passkey/options", (c) => passkeyQuestion(c, passkeys?.beginSignIn(sourceOf(c))))
    .post("/sign-in/passkey", async (c) => {
      const { answer = "", next } = await formOf(c);
      if (!passkeys) return goTo(c, "/sign-in");
      try {
        const { headers } = c.req.raw;
        const cookies = await passkeys.signIn(headers, passkeyAnswer(answer), sourceOf(c));
        return withCookies(cookies, goTo(c, localPath(next)));
      } catch (error) {
        const { message, status } = refusal(c, error);
        return signInPage(c, { passkeyMistake: message, next: localPath(next) }, status);
      }
    })
    .post("/sign-in/link", async (c) => {
      const { linkEmail = "", next } = await formOf(c);
      if (!elsewhere) return goTo(c, "/sign-in");
      try {
        const cookies = await elsewhere.sendLink(linkEmail.trim(), localPath(next));
        return withCookies(cookies, goTo(c, "/sign-in", "sign-in-link-sent"));
      } catch (error) {
        const { message, status } = refusal(c, error);
        return signInPage(c, { mistake: message, email: linkEmail, next: localPath(next) }, status);
      }
    })
    // A link and no form: the policy of our pages lets no form lead to another site.
    .get("/sign-in/with/:provider", async (c) => {
      const next = localPath(c.req.query("next"));
      if (!elsewhere) return goTo(c, "/sign-in");
      try {
        const { url, cookies } = await elsewhere.begin(c.req.param("provider"), next);
        return withCookies(cookies, c.redirect(url, 303));
      } catch (error) {
        const { message, status } = refusal(c, error);
        return signInPage(c, { mistake: message, next }, status);
      }
    })
    .get("/sign-in/callback", async (c) => {
      const next = localPath(c.req.query("next"));
      if (!elsewhere) return goTo(c, "/sign-in");
      try {
        const { searchParams } = new URL(c.req.url);
        return withCookies(await elsewhere.finish(c.req.raw.headers, searchParams), goTo(c, next));
      } catch (error) {
        if (error instanceof SecondFactorNeeded) return askForCode(c, error, next);
        const { message, status } = refusal(c, error);
        return signInPage(c, { mistake: message, next }, status);
      }
    })
    .get(
      "/sign-in/code",
      (c) => codePage(c, { next: localPath(c.req.query("next")) }),
    )
    .post("/sign-in/code", async (c) => {
      const { code = "", next } = await formOf(c);
      try {
        const cookies = await identity.signInWithCode(c.req.raw.headers, code, sourceOf(c));
        return withCookies(cookies, goTo(c, localPath(next)));
      } catch (error) {
        const { message, status } = refusal(c, error);
        return codePage(c, { mistake: message, next: localPath(next) }, status);
      }
    })
    .post(
      "/sign-out",
      async (c) =>
        withCookies(await identity.signOut(c.req.raw.headers), goTo(c, "/sign-in", "signed-out")),
    );
}

export function askForCode(
  c: Context<Env>,
  { cookies }: SecondFactorNeeded,
  next: string,
): Response {
  return withCookies(cookies, goTo(c, `/sign-in/code?next=${encodeURIComponent(next)}`));
}

/** A path on this site to go on to: never another site's (`//evil`, `/\evil`, `https:`). */
export function localPath(next: string | undefined): string {
  return next && /^\/(?![/\\])[\x20-\x7e]*$/.test(next) ? next : "/";
}

/** What is wrong with each field of a form, by its name. */
export function mistakesOf(error: z.ZodError): Record<string, string> {
  return Object.fromEntries(
    error.issues.map((issue) => [String(issue.path[0]), issue.message]).reverse(),
  );
}
