/**
 * A fake of Supabase Auth's OAuth 2.1 server, since no project can be had here: its documented wire (metadata,
 * registration, authorization, consent, tokens, grants), as auth_server.ts mounts it.
 */

export interface OAuthServerOptions {
  /** The project's Site URL, and the path that is set beside it: there people are asked. */
  siteUrl: string;
  authorizationPath: string;
}

interface Client {
  id: string;
  name: string;
  redirectUris: string[];
}

interface Authorization {
  id: string;
  client: Client;
  redirectUri: string;
  scope: string;
  state: string | null;
  challenge: string;
  /** Whoever looked at it first. */
  person: string | null;
  status: "pending" | "approved" | "denied";
  code: string;
}

/** What of auth_server.ts this works with. */
interface Parts {
  url: () => string;
  accessTokenS: () => number;
  /** Opens a session for a client. @returns its id */
  open(person: string, clientId: string): Promise<string>;
  /** An access token of a session that goes on; null once it has ended. */
  accessToken(session: string, clientId: string, more: object): Promise<string | null>;
  end(person: string, clientId: string): Promise<void>;
}

const SCOPES = ["openid", "profile", "email", "phone"];

export function oauthServer({ siteUrl, authorizationPath }: OAuthServerOptions, parts: Parts) {
  const clients = new Map<string, Client>();
  const authorizations = new Map<string, Authorization>();
  const consents = new Map<string, { person: string; client: Client; scopes: string[] }>();
  const refreshTokens = new Map<string, { session: string; clientId: string }>();
  /** What a hook of the project's puts into its tokens. */
  const state = { isEnabled: true, claims: {} };

  const consentKey = (person: string, client: Client) => `${person} ${client.id}`;

  /** What anybody may ask; null: it is nothing of this server's. */
  async function answerAnybody(request: Request, path: string): Promise<Response | null> {
    if (!state.isEnabled) return null;
    const issuer = `${parts.url()}/auth/v1`;
    switch (path) {
      case "GET /.well-known/oauth-authorization-server":
        return Response.json({
          issuer,
          authorization_endpoint: `${issuer}/oauth/authorize`,
          token_endpoint: `${issuer}/oauth/token`,
          registration_endpoint: `${issuer}/oauth/clients/register`,
          jwks_uri: `${issuer}/.well-known/jwks.json`,
          userinfo_endpoint: `${issuer}/oauth/userinfo`,
          scopes_supported: SCOPES,
          response_types_supported: ["code"],
          response_modes_supported: ["query"],
          grant_types_supported: ["authorization_code", "refresh_token"],
          subject_types_supported: ["public"],
          token_endpoint_auth_methods_supported: [
            "client_secret_basic",
            "client_secret_post",
            "none",
          ],
          code_challenge_methods_supported: ["S256", "plain"],
        });
      case "POST /oauth/clients/register": {
        const body = await request.json();
        const client = {
          id: crypto.randomUUID(),
          name: body.client_name ?? "",
          redirectUris: body.redirect_uris,
        };
        clients.set(client.id, client);
        return Response.json({
          client_id: client.id,
          client_type: "public",
          registration_type: "dynamic",
          client_name: client.name,
          redirect_uris: client.redirectUris,
          grant_types: ["authorization_code", "refresh_token"],
          response_types: ["code"],
          token_endpoint_auth_method: "none",
        }, { status: 201 });
      }
      case "GET /oauth/authorize":
        return authorize(new URL(request.url).searchParams);
      case "POST /oauth/token":
        return await token(new URLSearchParams(await request.text()));
    }
    return null;
  }

  function authorize(query: URLSearchParams): Response {
    const client = clients.get(query.get("client_id") ?? "");
    const redirectUri = query.get("redirect_uri") ?? "";
    if (!client?.redirectUris.includes(redirectUri)) return refuse(400, "validation_failed");
    const scope = query.get("scope") || "email";
    const unknown = scope.split(" ").find((each) => !SCOPES.includes(each));
    const challenge = query.get("code_challenge");
    if (unknown || !challenge) {
      const to = new URL(redirectUri);
      to.searchParams.set("error", "invalid_request");
      to.searchParams.set("error_description", `unsupported scope: ${unknown}`);
      return Response.redirect(to.href, 302);
    }
    const id = crypto.randomUUID().replaceAll("-", "");
    authorizations.set(id, {
      ...{ id, client, redirectUri, scope, challenge },
      state: query.get("state"),
      person: null,
      status: "pending",
      code: crypto.randomUUID(),
    });
    const to = `${siteUrl.replace(/\/$/, "")}${authorizationPath}?authorization_id=${id}`;
    return Response.redirect(to, 302);
  }

  async function token(form: URLSearchParams): Promise<Response> {
    const clientId = form.get("client_id") ?? "";
    if (!clients.has(clientId)) return wrong("invalid_client");
    if (form.get("grant_type") === "refresh_token") {
      const known = refreshTokens.get(form.get("refresh_token") ?? "");
      if (known?.clientId !== clientId) return wrong("invalid_grant");
      refreshTokens.delete(form.get("refresh_token")!);
      return await tokens(known.session, clientId);
    }
    const found = [...authorizations.values()].find(({ code, status }) =>
      code === form.get("code") && status === "approved"
    );
    const digest = await crypto.subtle.digest(
      "SHA-256",
      new TextEncoder().encode(form.get("code_verifier") ?? ""),
    );
    const challenge = btoa(String.fromCharCode(...new Uint8Array(digest)))
      .replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
    if (!found || found.client.id !== clientId || found.challenge !== challenge) {
      return wrong("invalid_grant");
    }
    authorizations.delete(found.id);
    return await tokens(await parts.open(found.person!, clientId), clientId);
  }

  async function tokens(session: string, clientId: string): Promise<Response> {
    const access_token = await parts.accessToken(session, clientId, state.claims);
    if (!access_token) return wrong("invalid_grant");
    const refresh_token = crypto.randomUUID();
    refreshTokens.set(refresh_token, { session, clientId });
    return Response.json({
      access_token,
      token_type: "bearer",
      expires_in: parts.accessTokenS(),
      refresh_token,
    });
  }

  /** What a person who is signed in may ask, by the project's key. */
  async function answerPerson(
    request: Request,
    path: string,
    person: string,
    body: { action?: string },
  ): Promise<Response | null> {
    if (!state.isEnabled) return null;
    const [, id, isConsent] = /^(?:GET|POST) \/oauth\/authorizations\/([^/]+)(\/consent)?$/
      .exec(path) ?? [];
    if (id) return isConsent ? decide(id, person, body.action) : look(id, person);
    if (path === "GET /user/oauth/grants") {
      const theirs = [...consents.values()].filter((each) => each.person === person);
      return Response.json(theirs.map(({ client, scopes }) => ({
        client: { id: client.id, name: client.name },
        scopes,
        granted_at: new Date().toISOString(),
      })));
    }
    if (path === "DELETE /user/oauth/grants") {
      const clientId = new URL(request.url).searchParams.get("client_id") ?? "";
      if (!consents.delete(`${person} ${clientId}`)) return refuse(404, "oauth_consent_not_found");
      await parts.end(person, clientId);
      return new Response(null, { status: 204 });
    }
    return null;
  }

  function look(id: string, person: string): Response {
    const asked = authorizations.get(id);
    if (!asked || asked.person && asked.person !== person) {
      return refuse(404, "oauth_authorization_not_found");
    }
    if (asked.status !== "pending") return refuse(400, "validation_failed");
    const before = consents.get(consentKey(person, asked.client));
    const isFirstLook = asked.person === null;
    asked.person = person;
    if (isFirstLook && asked.scope.split(" ").every((each) => before?.scopes.includes(each))) {
      asked.status = "approved";
      return Response.json({ redirect_url: answerOf(asked) });
    }
    return Response.json({
      authorization_id: id,
      redirect_uri: asked.redirectUri,
      client: { id: asked.client.id, name: asked.client.name },
      user: { id: person },
      scope: asked.scope,
    });
  }

  function decide(id: string, person: string, action?: string): Response {
    const asked = authorizations.get(id);
    if (asked?.person !== person) return refuse(404, "oauth_authorization_not_found");
    if (asked.status !== "pending") return refuse(400, "validation_failed");
    asked.status = action === "approve" ? "approved" : "denied";
    if (asked.status === "approved") {
      const { client } = asked;
      consents.set(consentKey(person, client), { person, client, scopes: asked.scope.split(" ") });
    }
    return Response.json({ redirect_url: answerOf(asked) });
  }

  function answerOf({ redirectUri, status, code, state }: Authorization): string {
    const to = new URL(redirectUri);
    if (status === "approved") to.searchParams.set("code", code);
    else to.searchParams.set("error", "access_denied");
    if (state) to.searchParams.set("state", state);
    return to.href;
  }

  return { state, consents, answerAnybody, answerPerson };
}

function wrong(error: string): Response {
  return Response.json({ error }, { status: 400 });
}

function refuse(status: number, code: string): Response {
  return Response.json({ code, message: code }, {
    status,
    headers: { "x-supabase-api-version": "2024-01-01" },
  });
}
