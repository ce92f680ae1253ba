/** The HTTP API: each operation of the list at its path, for programs with a personal access token. */
import { type Context, Hono } from "hono";
import { v4, v5 } from "uuid";
import type { z } from "zod";
import { boundedBody, DEPTH_LIMIT, outline } from "../../dtma/protocol.ts";
import { limits } from "../../mcp/limits.ts";
import { bearerOf } from "../../models/bearer.ts";
import { parseExactly } from "../../models/exact_json.ts";
import type { TokenBearer } from "../../models/personal_tokens.ts";
import { onceFor } from "../../models/repeatable_requests.ts";
import type { AppDeps, Env } from "../deps.ts";
import { answerOf, needsBasis, type Operation } from "./operation.ts";
import { asksByQuery, openApi, pathMembers } from "./openapi.ts";
import { OPERATIONS } from "./operations.ts";
import { ApiProblem, invalidInput, problemOf } from "./problems.ts";

/** Largest request, in bytes: an import of a whole workspace. */
const BODY_LIMIT_BYTES = 8 * 1024 * 1024;

/** Names the workspace for a sign-in's own token, whose person may be in several. */
const WORKSPACE_HEADER = "mooring-workspace";

/** Where uuids are made of a person's Idempotency-Keys (RFC 9562, section 5.5). */
const KEYS = "5b9a3b0e-7f0f-4c4e-9a9e-1d4f2f6c2a11";

interface ApiEnv extends Env {
  Variables: Env["Variables"] & { bearer: TokenBearer };
}

export function apiRoutes(deps: AppDeps): Hono<ApiEnv> {
  const { log, baseUrl } = deps;
  // When it is first asked for: making it takes longer than an isolate should take to start.
  let document: string | undefined;
  const basePath = baseUrl.pathname.replace(/\/+$/, "");
  const guard = limits();
  const api = new Hono<ApiEnv>();

  api.get("/openapi.json", (c) => {
    document ??= JSON.stringify(openApi(baseUrl, deps.version));
    return c.body(document, 200, {
      "content-type": "application/json",
      "cache-control": "no-cache",
    });
  });

  // Before what is looked for, so that a stranger learns nothing of what there is.
  api.use(async (c, next) => {
    const token = /^Bearer ([^\s]+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
    const workspace = c.req.header(WORKSPACE_HEADER);
    const bearer = token ? await bearerOf(deps, token, workspace) : null;
    if (!bearer) {
      throw new ApiProblem(
        "unauthenticated",
        token
          ? "The token is not valid: it is unknown, revoked or expired. Make one on your account's page"
          : "Send a personal access token: Authorization: Bearer mpt_…",
        { "www-authenticate": token ? 'Bearer error="invalid_token"' : "Bearer" },
      );
    }
    c.set("bearer", bearer);
    const done = counted(bearer.tokenId);
    try {
      await next();
    } finally {
      done();
    }
  });

  const methods = new Map<string, string[]>();
  for (const operation of OPERATIONS.flatMap(({ operations }) => operations)) {
    const path = operation.path.replace(/\{(\w+)\}/g, ":$1");
    methods.set(path, [...methods.get(path) ?? [], operation.method]);
    api.on(operation.method, path, (c) => serve(c, operation));
  }
  for (const [path, allowed] of methods) {
    api.all(path, () => {
      const allow = allowed.join(", ");
      throw new ApiProblem("method", `This takes ${allow}`, { allow });
    });
  }
  api.all("*", () => {
    throw new ApiProblem("not-found", "There is no such path: /api lists what there is");
  });
  api.onError((error, c) =>
    problemOf(error, {
      base: basePath,
      log,
      requestId: c.get("requestId"),
      isConditional: c.req.header("if-match") !== undefined,
    })
  );
  return new Hono<ApiEnv>().route("/api/v1", api);

  /** Counts a request in, as the bridge does. */
  function counted(tokenId: string): () => void {
    try {
      return guard.request(tokenId);
    } catch (error) {
      throw new ApiProblem("too-many", (error as Error).message, { "retry-after": "1" });
    }
  }

  async function serve(c: Context<ApiEnv>, operation: Operation): Promise<Response> {
    const bearer = c.get("bearer");
    const missing = operation.scopes.filter((scope) => !bearer.scopes.includes(scope));
    if (missing.length > 0) {
      const scope = missing.join(" ");
      throw new ApiProblem("scope", `The token lacks the scope ${scope}: make one that has it`, {
        "www-authenticate": `Bearer error="insufficient_scope", scope="${scope}"`,
      });
    }
    const input = await inputOf(c, operation);
    const key = operation.isCreating ? idempotencyKey(c) : null;
    const { workspace, user } = bearer;
    const said = key === null ? "" : JSON.stringify([operation.name, input]);
    const asked = {
      deps,
      bearer,
      // Sent again with the key where it failed half-way, it is the same still; another day it is not.
      idempotencyKey: key === null ? v4() : v5([user.userId, key, today(), said].join(" "), KEYS),
      signal: c.req.raw.signal,
    };
    const make = async () => JSON.stringify(answerOf(operation, await operation.run(asked, input)));
    if (key === null) return answer(c, operation, await make());
    const request = { workspaceId: workspace.id, userId: user.userId, key };
    const { answer: text, isRepeated } = await onceFor(deps, { ...request, asked: said }, make);
    if (isRepeated) c.header("idempotency-replayed", "true");
    return answer(c, operation, text);
  }
}

function answer(c: Context, { status, output, versionOf }: Operation, text: string): Response {
  c.header("cache-control", "no-store");
  if (!output || status === 204) return c.body(null, 204);
  if (versionOf) c.header("etag", `"${versionOf(JSON.parse(text))}"`);
  return c.body(text, status, { "content-type": "application/json" });
}

/** As an Idempotency-Key is good for a day. */
function today(): string {
  return new Date().toISOString().slice(0, 10);
}

/** The `Idempotency-Key`, quoted as a structured field's string or not. */
function idempotencyKey(c: Context): string | null {
  const given = c.req.header("idempotency-key");
  if (given === undefined) return null;
  const key = /^"([\x20\x21\x23-\x5b\x5d-\x7e]*)"$/.exec(given)?.[1] ?? given;
  if (!/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new ApiProblem("malformed", "An Idempotency-Key has 1 to 255 visible ASCII characters");
  }
  return key;
}

/** What the request gives, as the operation takes it. */
async function inputOf(
  c: Context,
  operation: Operation,
): Promise<Record<string, unknown>> {
  const { input, basedOn } = operation;
  const { given, exact } = asksByQuery(operation)
    ? { given: queryOf(c, input), exact: {} }
    : await bodyOf(c);
  for (const member of pathMembers(operation)) {
    if (Object.hasOwn(given, member)) {
      throw new ApiProblem("invalid", `The path says ${member}: leave it out of what else is sent`);
    }
    given[member] = c.req.param(member);
  }
  if (basedOn) readCondition(c, given, operation);
  const parsed = input.safeParse(given);
  if (!parsed.success) {
    // What is no id at all is the id of nothing.
    const isPath = ({ path: [member] }: z.core.$ZodIssue) =>
      pathMembers(operation).includes(String(member));
    if (parsed.error.issues.every(isPath)) {
      throw new ApiProblem("not-found", "There is no such thing");
    }
    throw invalidInput(parsed.error);
  }
  // Where any JSON may stand, such as a tool's arguments, numbers keep all of their digits.
  for (const [name, value] of Object.entries(exact)) {
    if (typeof given[name] === "object") given[name] = value;
  }
  const kept = input.safeParse(given);
  return kept.success ? kept.data : parsed.data;
}

/** What the change was made from: If-Match, or the member itself. */
function readCondition(c: Context, given: Record<string, unknown>, operation: Operation) {
  const member = operation.basedOn!, schema = operation.input.shape[member];
  const tag = c.req.header("if-match");
  if (tag !== undefined) {
    const version = /^"([0-9a-f]{1,64})"$/.exec(tag.trim())?.[1];
    if (version === undefined) {
      throw new ApiProblem("stale", "If-Match has to be one ETag, as it was answered");
    }
    given[member] = schema.safeParse(version).success ? version : Number(version);
  } else if (given[member] === undefined && needsBasis(operation)) {
    throw new ApiProblem(
      "unconditional",
      `Send If-Match with the ETag, or ${member}, of what the change was made from`,
    );
  }
}

/** A query's members: numbers and booleans where the operation takes them. */
function queryOf(c: Context, input: z.ZodObject): Record<string, unknown> {
  const members: Record<string, unknown> = Object.create(null);
  for (const [name, values] of Object.entries(c.req.queries())) {
    if (values.length > 1) {
      throw new ApiProblem("invalid", "A member of the query is given twice", {}, [
        {
          pointer: `#/${encodeURIComponent(name.slice(0, 100).toWellFormed())}`,
          detail: "Given twice",
        },
      ]);
    }
    const [text] = values;
    const isText = !Object.hasOwn(input.shape, name) ||
      input.shape[name].safeParse(text).success;
    members[name] = !isText && /^(true|false|-?\d{1,15}(\.\d+)?)$/.test(text)
      ? JSON.parse(text.replace(/^(-?)0+(?=\d)/, "$1"))
      : text;
  }
  return members;
}

/** The body's members, and the same as {@link parseExactly} reads them. */
async function bodyOf(c: Context): Promise<Record<"given" | "exact", Record<string, unknown>>> {
  const { body, headers } = c.req.raw;
  if (!body) return { given: {}, exact: {} };
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = await boundedBody(c.req.raw, BODY_LIMIT_BYTES);
  } catch {
    throw new ApiProblem("too-large", "A request holds 8 MiB at most");
  }
  if (bytes.length === 0) return { given: {}, exact: {} };
  if (
    !/^application\/json\s*(;\s*charset="?utf-8"?\s*)?$/i.test(headers.get("content-type") ?? "")
  ) {
    throw new ApiProblem("media-type", "Send JSON, with Content-Type: application/json");
  }
  let value: unknown, exact: unknown;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    if (outline(text).depth > DEPTH_LIMIT) throw new SyntaxError("Too deep");
    value = JSON.parse(text);
    exact = parseExactly(text);
  } catch {
    throw new ApiProblem(
      "malformed",
      `The body is not JSON in UTF-8, or nests deeper than ${DEPTH_LIMIT} levels`,
    );
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ApiProblem("malformed", "The body has to be a JSON object");
  }
  return { given: { ...value }, exact: exact as Record<string, unknown> };
}
