/** Passkeys through better-auth's plugin, for local_identity.ts. */
import { APIError } from "better-auth/api";
import { isIP } from "node:net";
import type { Database } from "./db.ts";
import { type Passkey, type Passkeys, SignInRefused, type SignInSource } from "./identity.ts";

/** better-auth's own name of the cookie that an answer is known by. */
export const CHALLENGE = "better-auth-passkey";

/**
 * Whether browsers take passkeys for an address: one of an IP address has no domain to bind them to
 * (WebAuthn, section 5.1.3), and without TLS `localhost` alone is trusted.
 */
export function mayHavePasskeys({ protocol, hostname }: URL): boolean {
  if (hostname === "localhost" || hostname.endsWith(".localhost")) return true;
  return protocol === "https:" && isIP(hostname.replaceAll(/[[\]]/g, "")) === 0;
}

/** The plugin. A passkey stands for both factors, so its owner has to have been there: by PIN or looks. */
export async function passkeyPlugin(baseUrl: URL) {
  const { passkey } = await import("@better-auth/passkey");
  const needVerified = (isVerified: boolean | undefined) => {
    if (isVerified) return Promise.resolve();
    throw new APIError("UNAUTHORIZED", { code: "PASSKEY_NOT_UNLOCKED" });
  };
  return passkey({
    rpID: baseUrl.hostname,
    rpName: `Mooring at ${baseUrl.host}`,
    origin: baseUrl.origin,
    schema: { passkey: { modelName: "auth.passkeys" } },
    authenticatorSelection: { residentKey: "required", userVerification: "required" },
    registration: {
      afterVerification: ({ verification }) =>
        needVerified(verification.registrationInfo?.userVerified),
    },
    authentication: {
      afterVerification: ({ verification }) =>
        needVerified(verification.authenticationInfo.userVerified),
    },
  });
}

/** What of local_identity.ts this is made with. */
interface Parts {
  db: Database;
  challengeCookie: string;
  /** Asks better-auth; tries are counted. With `body` by POST. */
  counted(
    path: string,
    body: object | null,
    from: SignInSource,
    cookie?: string,
  ): Promise<Response>;
  confirmPassword(headers: Headers, password: string, from: SignInSource): Promise<unknown>;
  userIdOf(headers: Headers): Promise<string>;
  refusalOf(response: Response): Promise<SignInRefused>;
  onlyCookies(headers: Headers): Headers;
}

export function localPasskeys(parts: Parts): Passkeys {
  const { db, counted, refusalOf, onlyCookies } = parts;
  return {
    async list(headers) {
      const passkeys = await db.asApp<Passkey[]>`
        select id, coalesce(nullif(name, ''), 'A passkey') as name,
          "deviceType" = 'multiDevice' as "isSynced", "createdAt" as since, "lastUsedAt"
        from auth.passkeys where "userId" = ${await parts.userIdOf(headers)}
        order by "createdAt", id`;
      return [...passkeys];
    },

    async beginAdding(headers, password, from) {
      await parts.confirmPassword(headers, password, from);
      return await question("/passkey/generate-register-options", from, cookieIn(headers));
    },

    async add(headers, name, answer, from) {
      const response = await counted(
        "/passkey/verify-registration",
        { response: answer, name },
        from,
        cookieIn(headers),
      );
      if (!response.ok) throw await refusalOf(response);
      await response.body?.cancel();
    },

    async rename(headers, id, name) {
      await db.asApp`update auth.passkeys set name = ${name}
        where id::text = ${id} and "userId" = ${await parts.userIdOf(headers)}`;
    },

    async remove(headers, id) {
      const userId = await parts.userIdOf(headers);
      const [{ isLastWay }] = await db.asApp<{ isLastWay: boolean }[]>`
        with others as (
          select from auth.passkeys where "userId" = ${userId} and id::text <> ${id}
          union all
          select from auth.accounts where "userId" = ${userId} and password is not null
        ), removed as (
          delete from auth.passkeys
          where "userId" = ${userId} and id::text = ${id} and exists (select from others)
        )
        select not exists (select from others) as "isLastWay"`;
      if (isLastWay) throw new SignInRefused("This is the last way into your account: it stays");
    },

    // Without cookies: with a session in reach it would ask for that one's passkeys alone.
    beginSignIn: (from) => question("/passkey/generate-authenticate-options", from, ""),

    async signIn(headers, answer, from) {
      const cookie = cookieIn(headers).split(/;\s*/)
        .filter((each) => each.startsWith(`${parts.challengeCookie}=`)).join("; ");
      const isAnswer = typeof answer === "object" && answer !== null;
      const body = { response: isAnswer ? answer : {} };
      const response = await counted("/passkey/verify-authentication", body, from, cookie);
      if (!response.ok) throw await refusalOf(response);
      const { id } = body.response as { id?: unknown };
      await db.asApp`
        update auth.passkeys set "lastUsedAt" = now() where "credentialID" = ${String(id)}`;
      return onlyCookies(response.headers);
    },
  };

  async function question(path: string, from: SignInSource, cookie: string) {
    const response = await counted(path, null, from, cookie);
    if (!response.ok) throw await refusalOf(response);
    const options = await response.json();
    // The plugin says "preferred", and has no option for it.
    if ("userVerification" in options) options.userVerification = "required";
    return { options, cookies: onlyCookies(response.headers) };
  }
}

function cookieIn(headers: Headers): string {
  return headers.get("cookie") ?? "";
}
