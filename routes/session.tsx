import { Hono } from "hono";
import { z } from "zod";
import { PASSWORD_MIN_LENGTH, SecondFactorNeeded, SignInRefused } from "../models/identity.ts";
import { Setup, SignIn, SignInCode } from "../views/session.tsx";
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
  let triesLeft = CODE_TRIES;

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
        return signedIn(await identity.createAccount(email, name, password), goTo(c, "/"));
      } catch (error) {
        if (error instanceof SignInRefused) return again({}, error.message);
        throw error;
      }
    })
    .get("/sign-in", async (c) => {
      if (await identity.userOf(c.req.raw.headers)) return goTo(c, "/");
      if (!await identity.hasAccounts()) return goTo(c, "/setup");
      return page(c, "Sign in", <SignIn next={localPath(c.req.query("next"))} />);
    })
    .post("/sign-in", async (c) => {
      const { email = "", password = "", next } = await formOf(c);
      try {
        const cookies = await identity.signIn(email.trim(), password, {
          clientIp: c.env?.clientIp ?? "unknown",
          userAgent: c.req.header("user-agent") ?? "",
        });
        return signedIn(cookies, goTo(c, localPath(next)));
      } catch (error) {
        if (error instanceof SecondFactorNeeded) {
          const asked = `/sign-in/code?next=${encodeURIComponent(localPath(next))}`;
          return signedIn(error.cookies, goTo(c, asked));
        }
        if (!(error instanceof SignInRefused)) throw error;
        if (error.retryAfterS) c.header("retry-after", String(error.retryAfterS));
        const again = <SignIn mistake={error.message} email={email} next={localPath(next)} />;
        return page(c, "Sign in", again, error.retryAfterS ? 429 : 422);
      }
    })
    .get(
      "/sign-in/code",
      (c) => page(c, "Your code", <SignInCode next={localPath(c.req.query("next"))} />),
    )
    .post("/sign-in/code", async (c) => {
      const { code = "", next } = await formOf(c);
      try {
        const cookies = await identity.signInWithCode(c.req.raw.headers, code, {
          clientIp: c.env?.clientIp ?? "unknown",
          userAgent: c.req.header("user-agent") ?? "",
        });
        return signedIn(cookies, goTo(c, localPath(next)));
      } catch (error) {
        if (!(error instanceof SignInRefused)) throw error;
        if (error.retryAfterS) c.header("retry-after", String(error.retryAfterS));
        const again = <SignInCode mistake={error.message} next={localPath(next)} />;
        return page(c, "Your code", again, error.retryAfterS ? 429 : 422);
      }
    })
    .post(
      "/sign-out",
      async (c) =>
        signedIn(await identity.signOut(c.req.raw.headers), goTo(c, "/sign-in", "signed-out")),
    );
}

/** A path on this site to go on to: never another site's (`//evil`, `/\evil`, `https:`). */
function localPath(next: string | undefined): string {
  return next && /^\/(?![/\\])[\x20-\x7e]*$/.test(next) ? next : "/";
}

function signedIn(cookies: Headers, response: Response): Response {
  for (const cookie of cookies.getSetCookie()) response.headers.append("set-cookie", cookie);
  return response;
}

/** What is wrong with each field of a form, by its name. */
export function mistakesOf(error: z.ZodError): Record<string, string> {
  return Object.fromEntries(
    error.issues.map((issue) => [String(issue.path[0]), issue.message]).reverse(),
  );
}
