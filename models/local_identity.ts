import { betterAuth, type BetterAuthOptions, type BetterAuthPlugin } from "better-auth";
import { createAuthEndpoint, sensitiveSessionMiddleware } from "better-auth/api";
import { twoFactor } from "better-auth/plugins/two-factor";
import { Kysely } from "kysely";
import { PostgresJSDialect } from "kysely-postgres-js";
import { v7 } from "uuid";
import { z } from "zod";
import { siteAddress } from "./authorization_server.ts";
import type { Database } from "./db.ts";
import type { AppSql } from "./db_pool.ts";
import {
  type Identity,
  PASSWORD_MIN_LENGTH,
  SecondFactorNeeded,
  type Session,
  SignInRefused,
  type SignInSource,
} from "./identity.ts";
import { CHALLENGE, localPasskeys, mayHavePasskeys, passkeyPlugin } from "./local_passkeys.ts";
import { authorizationPlugins, localAuthorizationServer } from "./local_authorization_server.ts";
import { errorFields, type Log } from "./log.ts";
import {
  addressChangedMail,
  type Mail,
  passwordChangedMail,
  passwordLinkMail,
  type SendMail,
} from "./mail.ts";
import type { Outside } from "./outside.ts";
import { standingAccess } from "./standing_access.ts";

/** What passkeys and the authorization server ask better-auth. */
const WIDER = /^\/(passkey|oauth2|clients)\//;

/** Between this file and better-auth alone: no request from outside reaches its handler. */
const CLIENT_IP_HEADER = "x-client-ip";

/** Nobody's mailbox is filled by strangers. */
const OPEN_PASSWORD_LINKS = 5;

export interface LocalIdentityOptions {
  /** Signs cookies; the same on every replica. */
  secret: string;
  /** Over https the cookie is `Secure` and carries the `__Host-` prefix; passkeys are bound to it. */
  baseUrl: URL;
  /** Null, or left out: Mooring sends no mail. */
  sendMail?: SendMail | null;
  /** Links to a new password that one account is sent in a quarter of an hour; left out, five. */
  openPasswordLinks?: number;
  /** Told when a mail could not be sent. */
  log?: Log;
  /** To the metadata of clients that are known by its address; without it none are. */
  outside?: Outside;
}

/** Sign-in by email and password, or by a passkey, through better-auth. */
export function localIdentity(db: Database, options: LocalIdentityOptions): Identity {
  const { baseUrl, sendMail = null, openPasswordLinks = OPEN_PASSWORD_LINKS } = options;
  const secure = baseUrl.protocol === "https:";
  const cookieName = (name: string) => `${secure ? "__Host-" : ""}mooring_${name}`;
  const settings = {
    baseURL: baseUrl.origin,
    secret: options.secret,
    database: {
      db: new Kysely({
        dialect: new PostgresJSDialect({
          // Each query by itself: there are no transactions, as said below.
          postgres: () => ({
            reserve: () =>
              Promise.resolve({
                unsafe: (...query: Parameters<AppSql["unsafe"]>) =>
                  Object.assign(db.asApp.unsafe(...query), { cancel() {} }),
                release() {},
              }),
            end: () => Promise.resolve(),
            options: {},
          }),
        }),
      }),
      type: "postgres",
      // The embedded database has one connection: a transaction that asks for a second would wait
      // for itself.
      transaction: false,
    },
    user: { modelName: "auth.users" },
    // What needs a fresh session elsewhere asks for the password here.
    session: { modelName: "auth.sessions", expiresIn: 60 * 60 * 24 * 14, freshAge: 0 },
    account: { modelName: "auth.accounts" },
    // Hashed: who reads the table has no link to a password.
    verification: { modelName: "auth.verifications", storeIdentifier: "hashed" },
    emailAndPassword: {
      enabled: true,
      minPasswordLength: PASSWORD_MIN_LENGTH,
      maxPasswordLength: 256,
      revokeSessionsOnPasswordReset: true,
      sendResetPassword: async ({ user, token }) => {
        const [{ open }] = await db.asApp<{ open: number }[]>`
          select count(*)::int as open from auth.verifications
          where value = ${user.id} and "createdAt" > now() - interval '15 minutes'`;
        if (open > openPasswordLinks) return;
        post(passwordLinkMail(user.email, passwordLink(baseUrl, token)));
      },
      onPasswordReset: async ({ user }) => {
        const goesOn = await standingAccess(db, { userId: user.id })
          .catch(() => ({ tokens: 0, clients: 0 }));
        post(passwordChangedMail(user.email, goesOn, `${siteAddress(baseUrl)}/account/security`));
        await endOpenLinks(user.id);
      },
    },
    rateLimit: {
      enabled: true,
      storage: "database",
      modelName: "auth.rate_limits",
      customRules: {
        "/sign-in/email": { window: 60, max: 10 },
        "/change-password": { window: 60, max: 10 },
        "/confirm-password": { window: 60, max: 10 },
        "/two-factor/*": { window: 60, max: 10 },
        "/request-password-reset": { window: 60, max: 5 },
        "/reset-password": { window: 60, max: 10 },
        "/passkey/*": { window: 60, max: 60 },
      },
    },
    advanced: {
      database: { generateId: () => v7() },
      ipAddress: { ipAddressHeaders: [CLIENT_IP_HEADER] },
      useSecureCookies: false, // it would say __Secure-; the stricter __Host- is set here
      cookies: {
        session_token: { name: cookieName("session") },
        two_factor: { name: cookieName("two_factor") },
        [CHALLENGE]: { name: cookieName("passkey") },
      },
      defaultCookieAttributes: { secure, httpOnly: true, sameSite: "lax", path: "/" },
    },
    plugins: [
      twoFactor({
        issuer: `Mooring at ${baseUrl.host}`,
        schema: { twoFactor: { modelName: "auth.two_factors" } },
      }),
      CONFIRM_PASSWORD,
    ],
    telemetry: { enabled: false },
    logger: { disabled: true },
  } satisfies BetterAuthOptions;
  const auth = betterAuth(settings);

  /** The same accounts with what few people come by, which takes 15 MB and a fifth of a second to load. */
  let wider: ReturnType<typeof openWider> | null = null;
  const openedWider = () =>
    wider ??= openWider().catch((error) => {
      // A package that could not be fetched may be there the next time.
      wider = null;
      throw error;
    });

  async function openWider(): Promise<Pick<typeof auth, "handler">> {
    const plugins = await Promise.all([passkeyPlugin(baseUrl), authorizationPlugins(db)]);
    return betterAuth({ ...settings, plugins: [...settings.plugins, ...plugins.flat()] });
  }

  return {
    async userOf(headers) {
      if (!headers.has("cookie")) return null;
      const session = await auth.api.getSession({ headers });
      return session &&
        { userId: session.user.id, email: session.user.email, name: session.user.name };
    },

    personOf: () => Promise.resolve(null),

    // better-auth renews a session as it reads it, in the table: the cookie stays.
    renew: () => Promise.resolve(null),

    async hasAccounts() {
      const [{ found }] = await db.asApp`
        select exists (select from auth.users where mooring.is_person(id)) as found`;
      return found;
    },

    async signIn(email, password, { clientIp, userAgent }) {
      const response = await counted("/sign-in/email", { email, password }, {
        clientIp,
        userAgent,
      });
      if (!response.ok) throw new SignInRefused("The email address or the password is wrong");
      const { twoFactorRedirect } = await response.json();
      if (twoFactorRedirect) throw new SecondFactorNeeded(onlyCookies(response.headers));
      return onlyCookies(response.headers);
    },

    async signInWithCode(headers, code, from) {
      // That cookie alone: with a session in reach the code would be taken for that one's account.
      const cookie = (headers.get("cookie") ?? "").split(/;\s*/)
        .filter((each) => each.startsWith(`${cookieName("two_factor")}=`)).join("; ");
      const plain = code.replaceAll(/\s/g, "");
      const path = /^\d{6}$/.test(plain) ? "verify-totp" : "verify-backup-code";
      const response = await counted(`/two-factor/${path}`, { code: plain }, from, cookie);
      return await cookiesOf(response);
    },

    async signOut(headers) {
      const { headers: answer } = await auth.api.signOut({ headers, returnHeaders: true });
      return onlyCookies(answer);
    },

    async createAccount(email, name, password) {
      // What a crash left of an earlier try: nobody has anything by it, and its address is wanted.
      await db.asApp`
        delete from auth.users where email = ${email.toLowerCase()} and not mooring.is_person(id)`;
      try {
        const { headers, response } = await auth.api.signUpEmail({
          body: { email, name, password },
          returnHeaders: true,
        });
        await db
          .asApp`select mooring.put_profile(${response.user.id}, ${response.user.email}, ${name})`;
        return onlyCookies(headers);
      } catch (error) {
        // By name: better-auth throws the class of more than one of its packages.
        const { name, body } = error as { name?: string; body?: { code?: string } };
        if (name === "APIError" && body?.code !== "FAILED_TO_CREATE_USER") {
          throw new SignInRefused((error as Error).message);
        }
        throw error;
      }
    },

    async rename(headers, name) {
      const { user } = await sessionOf(headers);
      await auth.api.updateUser({ headers, body: { name } });
      await db.asApp`select mooring.put_profile(${user.id}, ${user.email}, ${name})`;
    },

    async changeEmail(headers, { email, password }, from) {
      const { user } = await confirmPassword(headers, password, from);
      const address = email.toLowerCase();
      if (address === user.email) return "changed";
      try {
        await db.asApp`update auth.users set email = ${address}, "emailVerified" = false,
          "updatedAt" = now() where id = ${user.id}`;
      } catch (error) {
        if ((error as { code?: string }).code !== "23505") throw error;
        throw new SignInRefused("Another account has this address");
      }
      await db.asApp`select mooring.put_profile(${user.id}, ${address}, ${user.name})`;
      await endOpenLinks(user.id);
      post(addressChangedMail(user.email, address));
      return "changed";
    },

    async changePassword(headers, { present, next }, from) {
      const body = { currentPassword: present, newPassword: next, revokeOtherSessions: true };
      const { user } = await sessionOf(headers);
      const response = await counted("/change-password", body, from, cookieIn(headers));
      const cookies = await cookiesOf(response);
      await endOpenLinks(user.id);
      return cookies;
    },

    async listSessions(headers) {
      const { session } = await sessionOf(headers);
      const sessions = await db.asApp<Session[]>`
        select id, coalesce("userAgent", '') as "userAgent", coalesce("ipAddress", '') as "clientIp",
          "createdAt" as since, "updatedAt" as "lastUsedAt", "expiresAt", id = ${session.id} as "isThis"
        from auth.sessions where "userId" = ${session.userId} and "expiresAt" > now()
        order by "updatedAt" desc, id desc`;
      return [...sessions];
    },

    async endSession(headers, sessionId) {
      const { session } = await sessionOf(headers);
      await db.asApp`
        delete from auth.sessions where "userId" = ${session.userId} and id::text = ${sessionId}`;
    },

    async endAllSessions(headers) {
      const { session } = await sessionOf(headers);
      await db
        .asApp`delete from auth.sessions where "userId" = ${session.userId} and id <> ${session.id}`;
      return await this.signOut(headers);
    },

    async hasSecondFactor(headers) {
      return (await sessionOf(headers)).user.twoFactorEnabled === true;
    },

    async makeSecondFactor(headers, password, from) {
      const response = await counted("/two-factor/enable", { password }, from, cookieIn(headers));
      if (!response.ok) throw await refusalOf(response);
      const { totpURI, backupCodes } = await response.json();
      return { uri: totpURI, key: new URL(totpURI).searchParams.get("secret") ?? "", backupCodes };
    },

    async turnOnSecondFactor(headers, code, from) {
      const body = { code: code.replaceAll(/\s/g, "") };
      return await cookiesOf(
        await counted("/two-factor/verify-totp", body, from, cookieIn(headers)),
      );
    },

    async turnOffSecondFactor(headers, password, from) {
      return await cookiesOf(
        await counted("/two-factor/disable", { password }, from, cookieIn(headers)),
      );
    },

    async renewBackupCodes(headers, password, from) {
      const path = "/two-factor/generate-backup-codes";
      const response = await counted(path, { password }, from, cookieIn(headers));
      if (!response.ok) throw await refusalOf(response);
      return (await response.json()).backupCodes;
    },

    sendsMail: sendMail !== null,

    async sendPasswordLink(email, from) {
      const response = await counted("/request-password-reset", { email }, from);
      if (!response.ok) throw await refusalOf(response);
      await response.body?.cancel();
      return new Headers();
    },

    async resetPassword(_headers, { link, password }, from) {
      const body = { token: link.token, newPassword: password };
      const response = await counted("/reset-password", body, from);
      if (!response.ok) throw await refusalOf(response);
      await response.body?.cancel();
      return new Headers();
    },

    passkeys: mayHavePasskeys(baseUrl)
      ? localPasskeys({
        db,
        challengeCookie: cookieName("passkey"),
        counted,
        confirmPassword,
        userIdOf: async (headers) => (await sessionOf(headers)).user.id,
        refusalOf,
        onlyCookies,
      })
      : null,

    authorizationServer: localAuthorizationServer({
      db,
      baseUrl,
      outside: options.outside,
      counted,
    }),
    elsewhere: null,
  };

  /** Sends in the background: how long it takes would tell whether an address has an account. */
  function post(mail: Mail): void {
    sendMail?.(mail).catch((error) =>
      options.log?.error("A mail could not be sent", {
        subject: mail.subject,
        ...errorFields(error),
      })
    );
  }

  /** Links to a new password, and sign-ins that wait for a code: they were begun with what is not so any more. */
  async function endOpenLinks(userId: string): Promise<void> {
    await db.asApp`delete from auth.verifications where value = ${userId}`;
  }

  async function confirmPassword(headers: Headers, password: string, from: SignInSource) {
    const session = await sessionOf(headers);
    const response = await counted("/confirm-password", { password }, from, cookieIn(headers));
    if (!response.ok) throw await refusalOf(response);
    await response.body?.cancel();
    return session;
  }

  /** Asks better-auth through its handler rather than its API: only the handler counts tries. */
  async function counted(
    path: string,
    body: object | null,
    { clientIp, userAgent }: SignInSource,
    cookie = "",
  ): Promise<Response> {
    const isForm = body instanceof URLSearchParams;
    const { handler } = WIDER.test(path) ? await openedWider() : auth;
    const response = await handler(
      new Request(`${baseUrl.origin}/api/auth${path}`, {
        method: body ? "POST" : "GET",
        headers: {
          ...(body && !isForm ? { "content-type": "application/json" } : {}),
          origin: baseUrl.origin,
          [CLIENT_IP_HEADER]: clientIp,
          "user-agent": userAgent,
          ...(cookie ? { cookie } : {}),
        },
        body: isForm ? body : body && JSON.stringify(body),
      }),
    );
    // An account that is locked for its wrong codes is answered with 429 as well, and no time.
    if (response.status === 429) {
      const waitS = Number(response.headers.get("x-retry-after")) || 60;
      throw new SignInRefused(`Too many tries. Wait ${waitS} seconds and try again`, waitS);
    }
    if (response.status >= 500) {
      // It says so of a passkey that does not hold, too.
      const { code } = await response.clone().json().catch(() => ({}));
      if (!(code in REFUSALS)) throw new Error(`better-auth's ${path}: ${response.status}`);
    }
    return response;
  }

  async function sessionOf(headers: Headers) {
    const session = await auth.api.getSession({ headers });
    if (!session) throw new SignInRefused("Your session is over. Sign in again");
    return session;
  }
}

/** Asks for the password once more, before what a stolen session shall not do; better-auth's is the server's. */
const CONFIRM_PASSWORD = {
  id: "confirm-password",
  endpoints: {
    confirmPassword: createAuthEndpoint("/confirm-password", {
      method: "POST",
      body: z.object({ password: z.string() }),
      use: [sensitiveSessionMiddleware],
    }, async (c) => {
      await c.context.password.checkPassword(c.context.session.user.id, c);
      return c.json({ confirmed: true });
    }),
  },
} satisfies BetterAuthPlugin;

/** Where a link to a new password leads. */
export function passwordLink(baseUrl: URL, token: string): string {
  return `${baseUrl.href.replace(/\/$/, "")}/new-password?token=${encodeURIComponent(token)}`;
}

function cookieIn(headers: Headers): string {
  return headers.get("cookie") ?? "";
}

async function cookiesOf(response: Response): Promise<Headers> {
  if (!response.ok) throw await refusalOf(response);
  return onlyCookies(response.headers);
}

async function refusalOf(response: Response): Promise<SignInRefused> {
  const { code, message } = await response.json().catch(() => ({}));
  return new SignInRefused(REFUSALS[code] ?? message ?? "That was refused");
}

/** better-auth's codes in Mooring's words; another comes as better-auth says it. */
const REFUSALS: Record<string, string> = {
  INVALID_PASSWORD: "That is not your present password",
  INVALID_CODE: "That is not the code of now. Look whether the clocks are right, and try the next",
  INVALID_BACKUP_CODE: "That is neither a code of six digits nor a backup code that is left",
  INVALID_TWO_FACTOR_COOKIE: "That took too long. Sign in again",
  TOO_MANY_ATTEMPTS_REQUEST_NEW_CODE: "Too many wrong codes. Sign in again",
  TOTP_ALREADY_ENABLED: "There is a second factor already. Turn it off first",
  TWO_FACTOR_NOT_ENABLED: "There is no second factor that the codes would be for",
  INVALID_TOKEN: "This link was used already or is too old. Ask for another one",
  CHALLENGE_NOT_FOUND: "That took too long. Try it again",
  PASSKEY_NOT_FOUND: "Mooring does not know this passkey. Sign in with your password",
  AUTHENTICATION_FAILED: "That passkey was not accepted. Try again, or sign in with your password",
  FAILED_TO_VERIFY_REGISTRATION: "The passkey was not accepted. Try it again",
  PASSKEY_NOT_UNLOCKED:
    "The passkey was not unlocked by a PIN or by your looks. Choose one that asks for it",
};

function onlyCookies(headers: Headers): Headers {
  const cookies = new Headers();
  for (const cookie of headers.getSetCookie()) cookies.append("set-cookie", cookie);
  return cookies;
}
