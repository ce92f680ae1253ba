/**
 * Sign-in through the Auth of a Supabase project. The session is in cookies that no script reads, and is
 * renewed here; access tokens are proven by the project's public keys, or, where it signs with the legacy
 * shared secret, by asking the project.
 */
import {
  combineChunks,
  createServerClient,
  parseCookieHeader,
  serializeCookieHeader,
  stringFromBase64URL,
} from "@supabase/ssr";
import { createClient, isAuthRetryableFetchError } from "@supabase/supabase-js";
import { z } from "zod";
import type { Database } from "./db.ts";
import {
  ConfirmationNeeded,
  type Identity,
  type Person,
  type SignInOffers,
  SignInRefused,
} from "./identity.ts";
import { errorFields, type Log } from "./log.ts";
import { linkRefusal, refusalOf } from "./supabase_refusal.ts";

export interface SupabaseIdentityOptions {
  /** The project's address. */
  supabaseUrl: URL;
  /** The project's publishable key, or its legacy `anon` key: never one that opens more. */
  publishableKey: string;
  /** Where the app is reached: links in mails lead there. */
  baseUrl: URL;
  /** Whose the first workspace becomes, once Supabase has proof that the address is theirs. */
  ownerEmail: string | null;
  log: Log;
}

/** An access token that ends within this time is renewed; the library counts so too. */
const RENEW_BEFORE_MS = 90_000;

/** How long a request waits for that; after it the session stays what it is, and the next one tries again. */
const RENEW_WITHIN_MS = 5000;

/** How long what the project is set to may be remembered. */
const SETTINGS_TTL_MS = 60_000;

/** Of an access token: who it is of. A user without an account (anonymous) is nobody here. */
const Claims = z.object({
  sub: z.uuid(),
  session_id: z.uuid(),
  role: z.literal("authenticated"),
  aal: z.string().default("aal1"),
  email: z.string().default(""),
  is_anonymous: z.literal(false).optional(),
  user_metadata: z.object({ name: z.string().optional(), full_name: z.string().optional() })
    .catch({}),
});

/** What the session's cookies hold, as far as it is looked at before it is proven. */
const StoredSession = z.object({ access_token: z.string(), expires_at: z.number() });

/** Of `/auth/v1/settings`. */
const Settings = z.object({
  external: z.record(z.string(), z.boolean()),
  mailer_autoconfirm: z.boolean().default(false),
});

/** What `external` has beside other sites: ways of Supabase's own. */
const NOT_A_SITE = ["email", "phone", "anonymous_users", "web3", "saml"];

const PROVIDER_NAMES: Record<string, string> = {
  github: "GitHub",
  gitlab: "GitLab",
  azure: "Microsoft",
  linkedin_oidc: "LinkedIn",
  slack_oidc: "Slack",
  workos: "WorkOS",
};

const SECOND_FACTOR_NEEDED =
  "This account has a second factor, which Mooring does not ask for on Supabase yet: nobody is let in without it";

const NOT_HERE = "There are no codes of authenticator apps on Supabase yet";

/** Sign-in through Supabase Auth. */
export function supabaseIdentity(db: Database, options: SupabaseIdentityOptions): Identity {
  const { publishableKey, ownerEmail, log } = options;
  const supabaseUrl = options.supabaseUrl.href.replace(/\/$/, "");
  const base = options.baseUrl.href.replace(/\/$/, "");
  const secure = options.baseUrl.protocol === "https:";
  const cookie = {
    // The prefix: no other host of the domain can set it (RFC 6265bis, section 4.1.3.2).
    name: `${secure ? "__Host-" : ""}mooring_session`,
    httpOnly: true,
    secure,
    sameSite: "lax" as const,
    path: "/",
  };
  /** Holds no session: it proves tokens, and keeps the keys that it proves them by. */
  const verifier = createClient(supabaseUrl, publishableKey, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
  }).auth;
  const settings = remembered(readSettings, SETTINGS_TTL_MS);

  const callback = (next: string) => `${base}/sign-in/callback?next=${encodeURIComponent(next)}`;

  return {
    async userOf(headers) {
      const stored = await storedSession(headers);
      return stored && await personOf(stored.access_token);
    },

    personOf,

    async renew(headers) {
      const stored = await storedSession(headers);
      if (!stored || stored.expires_at * 1000 - Date.now() > RENEW_BEFORE_MS) return null;
      const { auth, cookies } = open(headers);
      // The library itself goes on trying for half a minute; meanwhile the page would stand still.
      const renewing = auth.getSession().catch((error: unknown) => ({ error }));
      const { error } = await within(RENEW_WITHIN_MS, renewing);
      if (error) log.warn("A session could not be renewed", errorFields(error));
      const changed = cookies();
      return { cookies: changed, headers: withCookiesOf(headers, changed) };
    },

    // Accounts are the project's: it has no page that makes the first one.
    hasAccounts: () => Promise.resolve(true),

    async signIn(email, password) {
      const { auth, cookies } = open();
      const { data, error } = await auth.signInWithPassword({ email, password });
      if (error) throw refusalOf(error);
      if (hasFactors(data.user)) {
        await auth.signOut({ scope: "local" });
        throw new SignInRefused(SECOND_FACTOR_NEEDED);
      }
      return cookies();
    },

    async signOut(headers) {
      return await end(headers, "local");
    },

    async createAccount(email, name, password) {
      const { auth, cookies } = open();
      const { data, error } = await auth.signUp({
        email,
        password,
        options: { data: { name }, emailRedirectTo: callback("/") },
      });
      if (error) throw refusalOf(error);
      // An address that has an account looks the same: its owner alone is told.
      if (!data.session) throw new ConfirmationNeeded(cookies());
      return cookies();
    },

    async rename(headers, name) {
      const { userId } = await signedIn(headers);
      await db.asApp`select mooring.rename_person(${userId}, ${name})`;
    },

    async changeEmail(headers, { email, password }) {
      const person = await signedIn(headers);
      await confirmPassword(person.email, password);
      if (email.toLowerCase() === person.email.toLowerCase()) return "changed";
      const { auth } = open(headers);
      const { data, error } = await auth.updateUser({ email }, {
        emailRedirectTo: callback("/account"),
      });
      if (error) throw refusalOf(error);
      return data.user.new_email ? "asked" : "changed";
    },

    async changePassword(headers, { present, next }) {
      const person = await signedIn(headers);
      await confirmPassword(person.email, present);
      const { auth, cookies } = open(headers);
      const { error } = await auth.updateUser({ password: next });
      if (error) throw refusalOf(error);
      const { error: others } = await auth.signOut({ scope: "others" });
      if (others) throw refusalOf(others);
      return cookies();
    },

    listSessions: () => Promise.resolve(null),
    endSession: () => Promise.resolve(),

    async endAllSessions(headers) {
      return await end(headers, "global");
    },

    hasSecondFactor: () => Promise.resolve(null),
    signInWithCode: () => Promise.reject(new SignInRefused(NOT_HERE)),
    makeSecondFactor: () => Promise.reject(new SignInRefused(NOT_HERE)),
    turnOnSecondFactor: () => Promise.reject(new SignInRefused(NOT_HERE)),
    turnOffSecondFactor: () => Promise.reject(new SignInRefused(NOT_HERE)),
    renewBackupCodes: () => Promise.reject(new SignInRefused(NOT_HERE)),

    sendsMail: true,

    async sendPasswordLink(email) {
      const { auth, cookies } = open();
      const { error } = await auth.resetPasswordForEmail(email, {
        redirectTo: `${base}/new-password`,
      });
      if (error) throw refusalOf(error);
      return cookies();
    },

    async resetPassword(headers, token, password) {
      const { auth } = open(headers);
      const { error: over } = await auth.exchangeCodeForSession(token);
      if (over) throw linkRefusal(over);
      const { error } = await auth.updateUser({ password });
      // Of the link, which is spent, nothing stays open either way.
      const { error: unended } = await auth.signOut({ scope: error ? "local" : "global" });
      if (error) {
        throw new SignInRefused(`${refusalOf(error).message}. The link is spent: ask for another`);
      }
      if (unended) throw refusalOf(unended);
    },

    passkeys: null,

    elsewhere: {
      async offers(): Promise<SignInOffers> {
        const { external } = await settings();
        return {
          byEmail: external.email ?? false,
          providers: Object.keys(external)
            .filter((id) => external[id] && !NOT_A_SITE.includes(id))
            .map((id) => ({ id, name: PROVIDER_NAMES[id] ?? id[0].toUpperCase() + id.slice(1) }))
            .toSorted((a, b) => a.name < b.name ? -1 : 1),
        };
      },

      async sendLink(email, next) {
        const { auth, cookies } = open();
        const { error } = await auth.signInWithOtp({
          email,
          options: { shouldCreateUser: false, emailRedirectTo: callback(next) },
        });
        // That an address has no account is told to nobody.
        if (error && error.code !== "otp_disabled" && error.code !== "user_not_found") {
          throw refusalOf(error);
        }
        return cookies();
      },

      async begin(provider, next) {
        const { providers } = await this.offers();
        if (!providers.some(({ id }) => id === provider)) {
          throw new SignInRefused("Nobody signs in there");
        }
        const { auth, cookies } = open();
        const { data, error } = await auth.signInWithOAuth({
          provider: provider as "github",
          options: { redirectTo: callback(next), skipBrowserRedirect: true },
        });
        if (error) throw refusalOf(error);
        return { url: data.url, cookies: cookies() };
      },

      async finish(headers, query) {
        const code = query.get("code");
        // Its own words come from outside (`error_description`): they are not shown.
        if (!code) throw new SignInRefused("The sign-in was not finished. Begin it again");
        const { auth, cookies } = open(headers);
        const { data, error } = await auth.exchangeCodeForSession(code);
        if (error) throw linkRefusal(error);
        if (hasFactors(data.user)) {
          await auth.signOut({ scope: "local" });
          throw new SignInRefused(SECOND_FACTOR_NEEDED);
        }
        return cookies();
      },
    },
  };

  /** The library over one request's cookies, and the `Set-Cookie` headers that came of it. */
  function open(headers = new Headers()) {
    const answer = new Headers();
    const { auth } = createServerClient(supabaseUrl, publishableKey, {
      cookieOptions: cookie,
      cookies: {
        getAll: () => cookiesIn(headers),
        setAll: (changed) => {
          for (const { name, value, options } of changed) {
            answer.append("set-cookie", serializeCookieHeader(name, value, options));
          }
        },
      },
    });
    return { auth, cookies: () => answer };
  }

  async function storedSession(headers: Headers) {
    const cookies = new Map(cookiesIn(headers).map(({ name, value }) => [name, value]));
    const text = await combineChunks(cookie.name, (name) => cookies.get(name));
    if (!text?.startsWith("base64-")) return null;
    try {
      return StoredSession.parse(JSON.parse(stringFromBase64URL(text.slice("base64-".length))));
    } catch {
      return null; // of parts that do not belong together, or somebody's own writing
    }
  }

  async function personOf(accessToken: string): Promise<Person | null> {
    const { data, error } = await verifier.getClaims(accessToken);
    if (isAuthRetryableFetchError(error)) throw error;
    const claims = Claims.safeParse(data?.claims);
    if (!claims.success) return null;
    const { sub, session_id, aal, email, user_metadata } = claims.data;
    const name = user_metadata.name ?? user_metadata.full_name ?? email.split("@")[0];
    const owner = await mayOwn(email) ? ownerEmail : null;
    const [person] = await db.asApp<{ email: string; name: string }[]>`
      select email, name from mooring.supabase_person(${sub}, ${session_id}, ${aal},
        ${name.slice(0, 80)}, ${owner})`;
    return person ? { userId: sub, ...person } : null;
  }

  /** Where a project confirms addresses unseen, whoever comes first has the owner's: nobody is made it. */
  async function mayOwn(email: string): Promise<boolean> {
    if (!ownerEmail || email.toLowerCase() !== ownerEmail.toLowerCase()) return false;
    try {
      const { mailer_autoconfirm } = await settings();
      if (!mailer_autoconfirm) return true;
      log.warn("Nobody becomes the owner while the project confirms addresses without a mail");
    } catch (error) {
      log.warn("It is not known how the project confirms addresses", errorFields(error));
    }
    return false;
  }

  async function signedIn(headers: Headers): Promise<Person> {
    const stored = await storedSession(headers);
    const person = stored && await personOf(stored.access_token);
    if (!person) throw new SignInRefused("You are signed out. Sign in and try it again");
    return person;
  }

  /** Asks for the password again; the session that it opens is ended at once. */
  async function confirmPassword(email: string, password: string): Promise<void> {
    const { auth } = open();
    const { error } = await auth.signInWithPassword({ email, password });
    if (error) throw refusalOf(error, "The password is wrong");
    await auth.signOut({ scope: "local" });
  }

  async function end(headers: Headers, scope: "local" | "global"): Promise<Headers> {
    const { auth, cookies } = open(headers);
    const { error } = await auth.signOut({ scope });
    if (error && scope === "global") throw refusalOf(error);
    // Whatever the project says, this browser forgets it.
    const answer = cookies();
    for (const { name } of cookiesIn(headers)) {
      if (name !== cookie.name && !name.startsWith(`${cookie.name}.`)) continue;
      answer.append("set-cookie", serializeCookieHeader(name, "", { ...cookie, maxAge: 0 }));
    }
    return answer;
  }

  async function readSettings() {
    const response = await fetch(`${supabaseUrl}/auth/v1/settings`, {
      headers: { apikey: publishableKey },
      signal: AbortSignal.timeout(5000),
    });
    if (!response.ok) {
      await response.body?.cancel();
      throw new Error(`Supabase Auth answered ${response.status} to what it is set to`);
    }
    return Settings.parse(await response.json());
  }
}

function cookiesIn(headers: Headers): { name: string; value: string }[] {
  return parseCookieHeader(headers.get("cookie") ?? "");
}

/** A request's headers as the next one's will be, with these cookies set. */
function withCookiesOf(headers: Headers, changed: Headers): Headers {
  const cookies = new Map(cookiesIn(headers).map(({ name, value }) => [name, value]));
  for (const line of changed.getSetCookie()) {
    const [pair] = line.split(";");
    const [{ name, value }] = parseCookieHeader(pair);
    if (value === "") cookies.delete(name);
    else cookies.set(name, value);
  }
  const next = new Headers(headers);
  const text = [...cookies].map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  next.set("cookie", text.join("; "));
  return next;
}

function hasFactors(user: { factors?: { status: string }[] }): boolean {
  return user.factors?.some(({ status }) => status === "verified") ?? false;
}

async function within<T>(ms: number, work: Promise<T>): Promise<T | { error: Error }> {
  const { promise: late, resolve } = Promise.withResolvers<{ error: Error }>();
  const error = new Error(`Supabase Auth did not answer within ${ms / 1000} s`);
  const timer = setTimeout(() => resolve({ error }), ms);
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Reads at most once in a while; a failure is not remembered. */
function remembered<T>(read: () => Promise<T>, ttlMs: number): () => Promise<T> {
  let known: { value: Promise<T>; atMs: number } | null = null;
  return () => {
    if (known && performance.now() - known.atMs < ttlMs) return known.value;
    const value = read();
    const mine = known = { value, atMs: performance.now() };
    value.catch(() => {
      if (known === mine) known = null;
    });
    return value;
  };
}
