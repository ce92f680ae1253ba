/**
 * Where MCP clients find out how to sign a person in, register and ask for tokens; the page on which a
 * person lets one in is client_consent.tsx. Programs call these, without cookies.
 */
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import {
  ClientRefused,
  clientSignIn,
  resourceMetadata,
  resourceOf,
  serverMetadata,
  siteAddress,
} from "../models/authorization_server.ts";
import { SignInRefused } from "../models/identity.ts";
import { sourceOf } from "./account.tsx";
import type { Deps, Env } from "./deps.ts";

const BODY_LIMIT_BYTES = 64 * 1024;
const CACHED = { "cache-control": "public, max-age=300" };
const NO_STORE = { "cache-control": "no-store" };

/** Where Mooring signs clients in itself, all of it; else who does, if anybody does. */
export function clientSignInRoutes({ identity, baseUrl }: Deps): Hono<Env> {
  const server = identity.authorizationServer;
  if (!server) return resources({ identity, baseUrl });
  const limit = bodyLimit({
    maxSize: BODY_LIMIT_BYTES,
    onError: () => refused(413, "invalid_request", "That is too long"),
  });

  return resources({ identity, baseUrl })
    .get(
      "/.well-known/oauth-authorization-server",
      (c) => c.json(serverMetadata(baseUrl, server), 200, CACHED),
    )
    .post("/oauth/register", limit, (c) =>
      answering(c, async () => {
        const metadata = await c.req.json().catch(() => null);
        return c.json(await server.register(metadata, sourceOf(c)), 201, NO_STORE);
      }))
    .post("/oauth/token", limit, (c) =>
      answering(
        c,
        async () => await server.token(await formOf(c), sourceOf(c)),
      ))
    .post("/oauth/revoke", limit, (c) =>
      answering(c, async () => {
        const form = await formOf(c);
        const clientId = form.get("client_id"), token = form.get("token");
        if (!clientId || !token) throw new ClientRefused("Give client_id and token");
        await server.revoke(clientId, token);
        return c.body(null, 200, NO_STORE);
      }));
}

/** The metadata of the bridge and of each of its endpoints (RFC 9728). */
function resources({ identity, baseUrl }: Pick<Deps, "identity" | "baseUrl">): Hono<Env> {
  const metadataOf = async (c: Context<Env>) => {
    const { kind, server } = c.req.param() as { kind?: string; server?: string };
    const path = [kind, server].filter(Boolean).map((part) => `/${part}`).join("");
    const signIn = await clientSignIn(identity, baseUrl);
    if (!signIn) {
      const why = "Nothing signs clients in here: give the client an agent's token";
      return refused(404, "not_found", why);
    }
    if (!resourceOf(baseUrl, siteAddress(baseUrl) + path)) {
      return refused(404, "not_found", "That is no address of this bridge");
    }
    const metadata = {
      ...resourceMetadata(baseUrl, path),
      authorization_servers: [signIn.issuer],
      ...(signIn.scope && { scopes_supported: [signIn.scope] }),
    };
    return c.json(metadata, 200, CACHED);
  };

  return new Hono<Env>()
    .get("/.well-known/oauth-protected-resource", metadataOf)
    .get("/.well-known/oauth-protected-resource/:kind", metadataOf)
    .get("/.well-known/oauth-protected-resource/:kind/:server", metadataOf);
}

/** A request's parameters, each once but `resource` (RFC 6749, section 3.2; RFC 8707, section 2). @throws {ClientRefused} */
async function formOf(c: Context<Env>): Promise<URLSearchParams> {
  const form = new URLSearchParams(await c.req.text());
  const names = [...form.keys()].filter((name) => name !== "resource");
  if (names.length > new Set(names).size) throw new ClientRefused("A parameter is given twice");
  if (String(form).includes("%00")) throw new ClientRefused("A parameter holds a NUL character");
  return form;
}

/** Says to a program what is wrong (RFC 6749, section 5.2; RFC 7591, section 3.2.2). */
async function answering(c: Context<Env>, answer: () => Promise<Response>): Promise<Response> {
  try {
    return await answer();
  } catch (error) {
    if (error instanceof ClientRefused) return refused(400, error.code, error.message);
    if (!(error instanceof SignInRefused) || !error.retryAfterS) throw error;
    c.header("retry-after", String(error.retryAfterS));
    return c.json({ error: "temporarily_unavailable", error_description: error.message }, 429);
  }
}

function refused(status: number, error: string, error_description: string): Response {
  return Response.json({ error, error_description }, { status, headers: NO_STORE });
}
