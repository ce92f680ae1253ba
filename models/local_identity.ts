import { betterAuth } from "better-auth";
import { Kysely } from "kysely";
import { PostgresJSDialect } from "kysely-postgres-js";
import { v7 } from "uuid";
import type { Database } from "./db.ts";
import {
  type Identity,
  PASSWORD_MIN_LENGTH,
  type Session,
  SignInRefused,
  type SignInSource,
} from "./identity.ts";

/** Between this file and better-auth alone: no request from outside reaches its handler. */
const CLIENT_IP_HEADER = "x-client-ip";

/**
 * Sign-in by email and password through better-auth.
 *
 * @param options.secret signs cookies; the same on every replica
 * @param options.baseUrl over https the cookie is `Secure` and carries the `__Host-` prefix
 */
export function localIdentity(
  db: Database,
  options: { secret: string; baseUrl: URL },
): Identity {
  const secure = options.baseUrl.protocol === "https:";
  const auth = betterAuth({
    baseURL: options.baseUrl.origin,
    secret: options.secret,
    database: {
      db: new Kysely({ dialect: new PostgresJSDialect({ postgres: db.asApp }) }),
      type: "postgres",
      // The embedded database has one connection: a transaction that asks for a second would wait
      // for itself.
      transaction: false,
    },
    user: { modelName: "auth.users" },
    session: { modelName: "auth.sessions", expiresIn: 60 * 60 * 24 * 14 },
    account: { modelName: "auth.accounts" },
    verification: { modelName: "auth.verifications" },
    emailAndPassword: {
      enabled: true,
      minPasswordLength: PASSWORD_MIN_LENGTH,
      maxPasswordLength: 256,
    },
    rateLimit: {
      enabled: true,
      storage: "database",
      modelName: "auth.rate_limits",
      customRules: {
        "/sign-in/email": { window: 60, max: 10 },
        "/change-password": { window: 60, max: 10 },
      },
    },
    advanced: {
      database: { generateId: () => v7() },
      ipAddress: { ipAddressHeaders: [CLIENT_IP_HEADER] },
      useSecureCookies: false, // it would say __Secure-; the stricter __Host- is set here
      cookies: {
        session_token: { name: secure ? "__Host-mooring_session" : "mooring_session" },
      },
      defaultCookieAttributes: { secure, httpOnly: true, sameSite: "lax", path: "/" },
    },
    telemetry: { enabled: false },
    logger: { disabled: true },
  });

  return {
    async userOf(headers) {
      if (!headers.has("cookie")) return null;
      const session = await auth.api.getSession({ headers });
      return session &&
        { userId: session.user.id, email: session.user.email, name: session.user.name };
    },

    async hasAccounts() {
      const [{ found }] = await db.asApp`select exists (select from auth.users) as found`;
      return found;
    },

    async signIn(email, password, { clientIp, userAgent }) {
      const response = await counted("/sign-in/email", { email, password }, {
        clientIp,
        userAgent,
      });
      if (!response.ok) throw new SignInRefused("The email address or the password is wrong");
      return onlyCookies(response.headers);
    },

    async signOut(headers) {
      const { headers: answer } = await auth.api.signOut({ headers, returnHeaders: true });
      return onlyCookies(answer);
    },

    async createAccount(email, name, password) {
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

    async changePassword(headers, { present, next }, from) {
      const body = { currentPassword: present, newPassword: next, revokeOtherSessions: true };
      const response = await counted("/change-password", body, from, headers.get("cookie") ?? "");
      if (!response.ok) {
        const { code, message } = await response.json().catch(() => ({}));
        throw new SignInRefused(
          code === "INVALID_PASSWORD"
            ? "That is not your present password"
            : message ?? "The password could not be changed",
        );
      }
      return onlyCookies(response.headers);
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
  };

  /** Asks better-auth through its handler rather than its API: only the handler counts tries. */
  async function counted(
    path: string,
    body: object,
    { clientIp, userAgent }: SignInSource,
    cookie?: string,
  ): Promise<Response> {
    const response = await auth.handler(
      new Request(`${options.baseUrl.origin}/api/auth${path}`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          origin: options.baseUrl.origin,
          [CLIENT_IP_HEADER]: clientIp,
          "user-agent": userAgent,
          ...(cookie === undefined ? {} : { cookie }),
        },
        body: JSON.stringify(body),
      }),
    );
    if (response.status === 429) {
      const waitS = Number(response.headers.get("x-retry-after")) || 60;
      throw new SignInRefused(`Too many tries. Wait ${waitS} seconds and try again`, waitS);
    }
    if (response.status >= 500) throw new Error(`better-auth's ${path}: ${response.status}`);
    return response;
  }

  async function sessionOf(headers: Headers) {
    const session = await auth.api.getSession({ headers });
    if (!session) throw new SignInRefused("Your session is over. Sign in again");
    return session;
  }
}

function onlyCookies(headers: Headers): Headers {
  const cookies = new Headers();
  for (const cookie of headers.getSetCookie()) cookies.append("set-cookie", cookie);
  return cookies;
}
