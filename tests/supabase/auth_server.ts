/**
 * A fake of Supabase Auth, since no project can be had here: its documented wire (settings, token, user,
 * signup, otp, recover, invite, verify, authorize, factors, logout, JWKS), over the stand-in for a project's
 * database. What is refused and when is as its source has it (supabase/auth, internal/api/mfa.go, verify.go).
 */
import type postgres from "postgres";
import { totp } from "../routes/totp.ts";
import { oauthServer, type OAuthServerOptions } from "./oauth_server.ts";

export const PUBLISHABLE_KEY = "sb_publishable_for_tests";

interface Account {
  id: string;
  email: string;
  password: string;
  isConfirmed: boolean;
  name: string;
  newEmail?: string;
  factors: Factor[];
}

interface Factor {
  id: string;
  status: string;
  factor_type: string;
  friendly_name?: string;
  /** Its key, in base32; never answered but once. */
  secret?: string;
}

/** Of `supabase/templates`, and the type that its link is of. */
const TEMPLATES = {
  magic_link: "email",
  confirmation: "email",
  recovery: "recovery",
  invite: "invite",
  email_change: "email_change",
} as const;

/** A code that a redirect brought: whose it is, and what proves that the asker exchanges it. */
interface Code {
  account: Account;
  challenge: string;
}

export interface AuthServerOptions {
  /** A superuser's connection to the project's database. */
  owner: postgres.Sql;
  /** HS256 is the legacy shared secret: then there is no key to prove tokens by. */
  algorithm?: "ES256" | "HS256";
  /** Its OAuth server, which a new project has turned off. */
  oauth?: OAuthServerOptions;
  isAutoconfirming?: boolean;
  providers?: string[];
  /** How long an access token holds. */
  accessTokenS?: number;
  /** The project's Site URL. */
  siteUrl?: string;
  /** Another address counts once its mail and one to the address of before were both opened. */
  confirmsChangesTwice?: boolean;
}

/** Starts it on a free port of the loopback address. */
export async function startAuthServer(options: AuthServerOptions) {
  const { owner, algorithm = "ES256", providers = ["github"] } = options;
  const accounts = new Map<string, Account>();
  const sessions = new Map<string, Account>();
  const refreshTokens = new Map<string, { session: string; next?: string }>();
  /** Those that a code raised to `aal2`, with the factor that it was of. */
  const raised = new Map<string, string>();
  const challenges = new Map<string, string>();
  const links = new Map<
    string,
    Code & { type: string; redirectTo: string; confirm: () => Promise<boolean | void> }
  >();
  const codes = new Map<string, Code>();
  const state = { accessTokenS: options.accessTokenS ?? 3600, isDown: false, isBusy: false };
  /** `link` is as Supabase's own templates have it, `anyBrowsers` as ours do. */
  const mails: { to: string; link: string; anyBrowsers: string }[] = [];
  const asked: string[] = [];
  const keys = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, [
    "sign",
    "verify",
  ]);
  // The library remembers keys by their id, over all projects at one host.
  const kid = crypto.randomUUID();
  const shared = await crypto.subtle.importKey(
    "raw",
    new TextEncoder().encode("the legacy secret of a project"),
    { name: "HMAC", hash: "SHA-256" },
    false,
    ["sign", "verify"],
  );

  async function addAccount(
    given: Partial<Account> & Pick<Account, "email" | "password">,
  ): Promise<Account> {
    const account = {
      id: crypto.randomUUID(),
      name: given.email.split("@")[0],
      isConfirmed: true,
      factors: [],
      ...given,
    };
    accounts.set(account.email, account);
    await owner`insert into auth.users (id, email, email_confirmed_at, aud, role)
      values (${account.id}, ${account.email}, ${account.isConfirmed ? new Date() : null},
        'authenticated', 'authenticated')`;
    for (const { id, status, factor_type } of account.factors) {
      await owner`insert into auth.mfa_factors (id, user_id, status, factor_type)
        values (${id}, ${account.id}, ${status}, ${factor_type})`;
    }
    return account;
  }

  async function confirm(account: Account) {
    account.isConfirmed = true;
    await owner`update auth.users set email_confirmed_at = now() where id = ${account.id}`;
  }

  /** Signs any claims, also such as it would never give out. */
  async function sign(claims: object, header: object = {}, key = keys.privateKey): Promise<string> {
    const isShared = algorithm === "HS256";
    const head = { alg: algorithm, typ: "JWT", ...(isShared ? {} : { kid }), ...header };
    const text = `${base64Url(JSON.stringify(head))}.${base64Url(JSON.stringify(claims))}`;
    const signature = isShared
      ? await crypto.subtle.sign("HMAC", shared, new TextEncoder().encode(text))
      : await crypto.subtle.sign(
        { name: "ECDSA", hash: "SHA-256" },
        key,
        new TextEncoder().encode(text),
      );
    return `${text}.${base64Url(new Uint8Array(signature))}`;
  }

  function claimsOf(account: Account, session: string) {
    const now = Math.floor(Date.now() / 1000);
    return {
      iss: `${url}/auth/v1`,
      sub: account.id,
      aud: "authenticated",
      exp: now + state.accessTokenS,
      iat: now,
      role: "authenticated",
      email: account.email,
      session_id: session,
      is_anonymous: false,
      aal: raised.has(session) ? "aal2" : "aal1",
      user_metadata: { name: account.name },
    };
  }

  async function openSession(account: Account) {
    return await sessionAnswer(account, await beginSession(account));
  }

  async function beginSession(account: Account): Promise<string> {
    const session = crypto.randomUUID();
    sessions.set(session, account);
    await owner`insert into auth.sessions (id, user_id, created_at)
      values (${session}, ${account.id}, now())`;
    return session;
  }

  async function sessionAnswer(
    account: Account,
    session: string,
    token: string = crypto.randomUUID(),
  ) {
    refreshTokens.set(token, { session });
    const claims = claimsOf(account, session);
    return {
      access_token: await sign(claims),
      token_type: "bearer",
      expires_in: state.accessTokenS,
      expires_at: claims.exp,
      refresh_token: token,
      user: userAnswer(account),
    };
  }

  async function endSessions(which: (session: string) => boolean) {
    for (const session of [...sessions.keys()].filter(which)) {
      sessions.delete(session);
      await owner`delete from auth.sessions where id = ${session}`;
    }
  }

  /** Whose clients' sessions are which. */
  const clientSessions = new Map<string, string>();
  const oauth = options.oauth && oauthServer(options.oauth, {
    url: () => url,
    accessTokenS: () => state.accessTokenS,
    async open(person, clientId) {
      const account = [...accounts.values()].find(({ id }) => id === person)!;
      const session = await beginSession(account);
      clientSessions.set(session, clientId);
      return session;
    },
    async accessToken(session, clientId, more) {
      const account = sessions.get(session);
      return account
        ? await sign({ ...claimsOf(account, session), client_id: clientId, ...more })
        : null;
    },
    end: (person, clientId) =>
      endSessions((id) => sessions.get(id)?.id === person && clientSessions.get(id) === clientId),
  });

  async function bearerOf(request: Request): Promise<{ account: Account; session: string } | null> {
    const token = request.headers.get("authorization")?.replace(/^Bearer /, "") ?? "";
    const [head, payload, signature] = token.split(".");
    if (!signature) return null;
    const text = new TextEncoder().encode(`${head}.${payload}`);
    if (algorithm === "ES256" && JSON.parse(atob(head)).kid !== kid) return null;
    const isSound = algorithm === "HS256"
      ? await crypto.subtle.verify("HMAC", shared, bytesOf(signature), text)
      : await crypto.subtle.verify(
        { name: "ECDSA", hash: "SHA-256" },
        keys.publicKey,
        bytesOf(signature),
        text,
      );
    const { session_id, exp } = JSON.parse(new TextDecoder().decode(bytesOf(payload)));
    const account = sessions.get(session_id);
    return isSound && account && exp * 1000 > Date.now() ? { account, session: session_id } : null;
  }

  function mail(
    account: Account,
    template: keyof typeof TEMPLATES,
    body: { code_challenge?: string },
    redirectTo: string,
    then: () => Promise<boolean | void> = () => confirm(account),
    to = account.newEmail ?? account.email,
  ) {
    // As Auth's own tokens of a browser that asks with a challenge begin.
    const token = `${body.code_challenge ? "pkce_" : ""}${crypto.randomUUID()}`;
    links.set(token, {
      account,
      challenge: body.code_challenge ?? "",
      type: TEMPLATES[template],
      redirectTo,
      confirm: then,
    });
    const anyBrowsers = linkIn(template, {
      SiteURL: options.siteUrl ?? "",
      TokenHash: token,
      Email: account.email,
      NewEmail: account.newEmail ?? "",
      RedirectTo: redirectTo,
    });
    mails.push({ to, link: `${url}/auth/v1/verify?token=${token}`, anyBrowsers });
  }

  /** Somebody with the project's secret key invites an address, as its dashboard does. */
  async function invite(email: string) {
    const account = await addAccount({ email, password: crypto.randomUUID(), isConfirmed: false });
    mail(account, "invite", {}, options.siteUrl ?? "");
    return account;
  }

  /** What a code of an authenticator app makes of a session, as `updateMFASessionAndClaims` does. */
  async function raise(account: Account, session: string, factor: Factor) {
    raised.set(session, factor.id);
    if (factor.status !== "verified") {
      factor.status = "verified";
      await owner`insert into auth.mfa_factors (id, user_id, status, factor_type)
        values (${factor.id}, ${account.id}, 'verified', ${factor.factor_type})`;
    }
    account.factors = account.factors.filter(({ status }) => status === "verified");
    await endSessions((id) => sessions.get(id)?.id === account.id && !raised.has(id));
    return await sessionAnswer(account, session);
  }

  function withCode(redirectTo: string, code: Code): Response {
    const to = new URL(redirectTo), text = crypto.randomUUID();
    codes.set(text, code);
    to.searchParams.set("code", text);
    return new Response(null, { status: 303, headers: { location: to.href } });
  }

  async function answer(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    const path = `${request.method} ${pathname.replace("/auth/v1", "")}`;
    asked.push(path);
    const redirectTo = searchParams.get("redirect_to") ?? "";
    // Where browsers come; all else is asked with the project's key.
    if (path === "GET /verify") {
      const link = links.get(searchParams.get("token") ?? "");
      if (!link) return refuse(403, "otp_expired");
      links.delete(searchParams.get("token")!);
      await link.confirm();
      return withCode(link.redirectTo, link);
    }
    if (path === "GET /authorize") {
      const account = accounts.get("github@example.com") ??
        await addAccount({ email: "github@example.com", password: "", name: "Gi Thub" });
      return withCode(redirectTo, { account, challenge: searchParams.get("code_challenge")! });
    }
    const answered = await oauth?.answerAnybody(request, path);
    if (answered) return answered;
    if (path === "GET /.well-known/oauth-authorization-server") {
      return refuse(404, "feature_disabled");
    }
    if (request.headers.get("apikey") !== PUBLISHABLE_KEY) return refuse(401, "no_authorization");
    if (state.isDown) return new Response("Bad gateway", { status: 502 });
    if (state.isBusy) return refuse(429, "over_request_rate_limit");
    const body = JSON.parse(await request.text() || "{}");
    switch (path) {
      case "GET /settings":
        return Response.json({
          external: {
            email: true,
            phone: false,
            anonymous_users: false,
            ...Object.fromEntries(
              ["github", "google", "azure"].map((id) => [id, providers.includes(id)]),
            ),
          },
          disable_signup: false,
          mailer_autoconfirm: options.isAutoconfirming ?? false,
        });
      case "GET /.well-known/jwks.json": {
        const jwk = await crypto.subtle.exportKey("jwk", keys.publicKey);
        return Response.json({
          keys: algorithm === "HS256" ? [] : [{ ...jwk, kid, alg: "ES256", use: "sig" }],
        });
      }
      case "POST /token": {
        const grant = searchParams.get("grant_type");
        if (grant === "password") {
          const account = accounts.get(body.email);
          if (!account || account.password !== body.password) {
            return refuse(400, "invalid_credentials");
          }
          if (!account.isConfirmed) return refuse(400, "email_not_confirmed");
          return Response.json(await openSession(account));
        }
        if (grant === "refresh_token") {
          const token = refreshTokens.get(body.refresh_token);
          const account = token && sessions.get(token.session);
          if (!account) return refuse(400, "refresh_token_not_found");
          // Within its reuse interval the token before gives what the first use of it gave.
          token.next ??= crypto.randomUUID();
          return Response.json(await sessionAnswer(account, token.session, token.next));
        }
        const code = codes.get(body.auth_code);
        codes.delete(body.auth_code);
        if (!code) return refuse(404, "flow_state_not_found");
        const digest = await crypto.subtle.digest(
          "SHA-256",
          new TextEncoder().encode(body.code_verifier),
        );
        if (base64Url(new Uint8Array(digest)) !== code.challenge) {
          return refuse(400, "bad_code_verifier");
        }
        return Response.json(await openSession(code.account));
      }
      case "POST /signup": {
        const known = accounts.get(body.email);
        if (options.isAutoconfirming) {
          if (known) return refuse(422, "user_already_exists");
          const name = body.data?.name;
          return Response.json(await openSession(await addAccount({ ...body, name })));
        }
        const { email, password, data } = body;
        const account = known ??
          await addAccount({ email, password, name: data?.name, isConfirmed: false });
        if (!known) mail(account, "confirmation", body, redirectTo);
        return Response.json(userAnswer(account));
      }
      case "POST /otp": {
        const account = accounts.get(body.email);
        if (!account) return refuse(422, "otp_disabled");
        mail(account, "magic_link", body, redirectTo);
        return Response.json({});
      }
      case "POST /recover": {
        const account = accounts.get(body.email);
        if (account) mail(account, "recovery", body, redirectTo);
        return Response.json({});
      }
      case "POST /verify": {
        const link = links.get(body.token_hash);
        if (!link || link.type !== body.type) return refuse(403, "otp_expired");
        links.delete(body.token_hash);
        if (await link.confirm() === false) {
          return Response.json({ msg: "Confirmation link accepted", code: "200" });
        }
        return Response.json(await openSession(link.account));
      }
    }
    const bearer = await bearerOf(request);
    if (!bearer) return refuse(403, "session_not_found");
    const { account, session } = bearer;
    const asPerson = await oauth?.answerPerson(request, path, account.id, body);
    if (asPerson) return asPerson;
    switch (path) {
      case "GET /user":
        return Response.json(userAnswer(account));
      case "PUT /user":
        if (hasVerified(account) && !raised.has(session)) return refuse(401, "insufficient_aal");
        if (body.password !== undefined) {
          if (body.password.length < 12) return refuse(422, "weak_password", "Longer, please");
          account.password = body.password;
        }
        if (body.email !== undefined) {
          if (accounts.has(body.email)) return refuse(422, "email_exists");
          account.newEmail = body.email;
          let confirmed = 0;
          const change = async () => {
            if (options.confirmsChangesTwice && ++confirmed < 2) return false;
            accounts.delete(account.email);
            account.email = account.newEmail!;
            account.newEmail = undefined;
            accounts.set(account.email, account);
            await owner`update auth.users set email = ${account.email} where id = ${account.id}`;
          };
          mail(account, "email_change", body, redirectTo, change);
          if (options.confirmsChangesTwice) {
            mail(account, "email_change", body, redirectTo, change, account.email);
          }
        }
        return Response.json(userAnswer(account));
      case "POST /logout": {
        const scope = searchParams.get("scope") ?? "global";
        const theirs = (id: string) => sessions.get(id)?.id === account.id;
        await endSessions((id) =>
          theirs(id) && (scope === "global" || (scope === "local") === (id === session))
        );
        return new Response(null, { status: 204 });
      }
      case "POST /factors": {
        if (hasVerified(account) && !raised.has(session)) return refuse(403, "insufficient_aal");
        if (account.factors.some((factor) => factor.friendly_name === body.friendly_name)) {
          return refuse(422, "mfa_factor_name_conflict");
        }
        const letters = [...crypto.getRandomValues(new Uint8Array(32))];
        const secret = letters.map((n) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[n % 32]).join("");
        const factor = {
          id: crypto.randomUUID(),
          status: "unverified",
          factor_type: body.factor_type,
          friendly_name: body.friendly_name,
          secret,
        };
        account.factors.push(factor);
        const label = `${encodeURIComponent(body.issuer)}:${encodeURIComponent(account.email)}`;
        const uri = `otpauth://totp/${label}?secret=${secret}&issuer=${
          encodeURIComponent(body.issuer)
        }`;
        const { id, factor_type: type, friendly_name } = factor;
        return Response.json({ id, type, friendly_name, totp: { qr_code: "<svg/>", secret, uri } });
      }
    }
    const [, verb, id, act] =
      /^(POST|DELETE) \/factors\/([^/]+)(?:\/(challenge|verify))?$/.exec(path) ?? [];
    const factor = account.factors.find((factor) => factor.id === id);
    if (!factor) return refuse(404, "not_found");
    if (verb === "DELETE") {
      if (factor.status === "verified" && raised.get(session) === undefined) {
        return refuse(422, "insufficient_aal");
      }
      account.factors.splice(account.factors.indexOf(factor), 1);
      await owner`delete from auth.mfa_factors where id = ${id}`;
      for (const [raisedSession, by] of raised) if (by === id) raised.delete(raisedSession);
      return Response.json({ id });
    }
    if (act === "challenge") {
      const challenge = crypto.randomUUID();
      challenges.set(challenge, id);
      return Response.json({ id: challenge, type: "totp", expires_at: Date.now() / 1000 + 300 });
    }
    if (challenges.get(body.challenge_id) !== id) return refuse(422, "mfa_factor_not_found");
    const good = await Promise.all(
      [-1, 0, 1].map((steps) => totp(factor.secret!, Date.now() + steps * 30_000)),
    );
    if (!good.includes(body.code)) return refuse(422, "mfa_verification_failed");
    challenges.delete(body.challenge_id);
    return Response.json(await raise(account, session, factor));
  }

  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, answer);
  const url = `http://127.0.0.1:${server.addr.port}`;
  return {
    url,
    state,
    oauth,
    mails,
    /** What was asked of it, such as `GET /settings`. */
    asked,
    addAccount,
    invite,
    sign,
    claimsOf,
    openSession,
    close: () => server.shutdown(),
  };
}

export type AuthServer = Awaited<ReturnType<typeof startAuthServer>>;

function userAnswer({ id, email, name, isConfirmed, newEmail, factors }: Account) {
  return {
    id,
    aud: "authenticated",
    role: "authenticated",
    email,
    ...(newEmail ? { new_email: newEmail } : {}),
    ...(isConfirmed ? { email_confirmed_at: new Date().toISOString() } : {}),
    app_metadata: { provider: "email" },
    user_metadata: { name },
    identities: [],
    factors: factors.map(({ secret: _, ...factor }) => factor),
    created_at: new Date().toISOString(),
  };
}

function hasVerified({ factors }: Account): boolean {
  return factors.some(({ status }) => status === "verified");
}

/** Where the link of one of our templates leads, with its fields as Auth's html/template writes them there. */
function linkIn(template: keyof typeof TEMPLATES, fields: Record<string, string>): string {
  const text = Deno.readTextFileSync(
    new URL(`../../supabase/templates/${template}.html`, import.meta.url),
  );
  const [, href] = /href="([^"]+)"/.exec(text)!;
  return href.replaceAll("&amp;", "&").replaceAll(/\{\{ \.(\w+) \}\}/g, (_, name) => {
    if (!Object.hasOwn(fields, name)) throw new Error(`Auth knows no ${name} in ${template}.html`);
    return name === "SiteURL" ? fields[name] : encodeURIComponent(fields[name]);
  });
}

function refuse(status: number, code: string, message = code): Response {
  return Response.json({ code, message }, {
    status,
    headers: { "x-supabase-api-version": "2024-01-01" },
  });
}

function base64Url(data: string | Uint8Array): string {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(
    atob(text.replaceAll("-", "+").replaceAll("_", "/")),
    (char) => char.charCodeAt(0),
  );
}
