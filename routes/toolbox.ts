/**
 * The control path: what a toolbox's DTMA calls, signed by the toolbox but for enrolment. And where the
 * data path goes through the app: the link of a toolbox behind NAT, and the calls that other replicas
 * forward to the one which has it.
 */
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { z } from "zod";
import { streamResponse } from "../mcp/event_stream.ts";
import type { Links } from "../mcp/links.ts";
import { callOver, failure } from "../mcp/router.ts";
import {
  boundedBody,
  DesiredRequest,
  type DesiredResponse,
  EnrolRequest,
  type EnrolResponse,
  ErrorCode,
  FRAME_LIMIT_BYTES,
  isProof,
  OVERTAKEN,
  POLLS_META,
  PROTOCOL_VERSION,
  Report,
  type ReportResponse,
  RotateRequest,
  type RotateResponse,
  ROTATION,
  SignatureError,
  type SigningKey,
  verifyRequest,
} from "../dtma/protocol.ts";
import { renewAuthorizations } from "../models/authorizations.ts";
import type { Changes } from "../models/changes.ts";
import type { Database } from "../models/db.ts";
import { Forbidden, NotFound } from "../models/errors.ts";
import { errorFields, type Log } from "../models/log.ts";
import type { Outside } from "../models/outside.ts";
import type { SecretsKey } from "../models/secrets.ts";
import {
  acceptReport,
  desiredOf,
  enrolToolbox,
  isFirstUse,
  isLatestDtma,
  refuseToolbox,
  rotateKey,
  toolboxKey,
  touchToolbox,
} from "../models/toolboxes.ts";

/** What a toolbox answers with a stream (dtma/data_path.ts's isStreamed), and a little more. */
const MAY_BE_STREAMED = new RegExp(`"progressToken"|/logLevel"|"requestState"|"${POLLS_META}"`);

/** A report holds every tool of every server that changed: up to 1,000 tools each. */
const REPORT_LIMIT_BYTES = 64 * 1024 * 1024;

export function toolboxRoutes(deps: {
  db: Database;
  changes: Changes;
  secretsKey: SecretsKey;
  outside: Outside;
  appSigningKey: SigningKey;
  links: Links | null;
  log: Log;
}): Hono {
  const { db } = deps;

  return new Hono()
    .use(
      "/toolbox/*",
      bodyLimit({
        maxSize: REPORT_LIMIT_BYTES,
        onError: () => refused(413, "The body is too large"),
      }),
    )
    .post("/toolbox/enrol", async (c) => {
      const request = parse(EnrolRequest, await bytesOf(c));
      const toolboxId = await enrolToolbox(db, request);
      deps.log.info("A toolbox enrolled", { toolbox: toolboxId });
      return c.json(
        { toolboxId, appPublicKey: deps.appSigningKey.publicKey } satisfies EnrolResponse,
      );
    })
    .post("/toolbox/desired", async (c) => {
      const { toolboxId, body } = await signed(c);
      let request: DesiredRequest;
      try {
        request = parse(DesiredRequest, body);
      } catch (error) {
        if (error instanceof OtherVersion) await refuseToolbox(db, toolboxId, error.message);
        throw error;
      }
      // Before the first look, so that a change in between is not slept through.
      const wakeUps = deps.changes.subscribe((change) =>
        change.table === "toolboxes" && change.toolbox === toolboxId
      );
      try {
        const until = Date.now() + request.waitMs;
        for (let isFirstLook = true;; isFirstLook = false) {
          if (request.epoch && !await isLatestDtma(db, toolboxId, request.epoch)) {
            throw new Refusal(409, OVERTAKEN);
          }
          // Once a poll: a poll that was given up, and whose end was not noticed, would take turns with
          // the one after it in writing other facts and waking each other.
          const facts = isFirstLook ? request.facts : null;
          const touched = await touchToolbox(db, toolboxId, facts);
          // Here, for it goes out with what the toolbox should run, and an edge isolate has no other time.
          if (touched.isRenewalDue) await renewDue(toolboxId);
          const { desiredVersion } = touched.isRenewalDue
            ? await touchToolbox(db, toolboxId, null)
            : touched;
          const restMs = until - Date.now();
          if (desiredVersion !== request.haveVersion || restMs <= 0 || c.req.raw.signal.aborted) {
            break;
          }
          // Looks again after a while even unwoken: a notification can be lost with its connection.
          await wakeUps.next(Math.min(restMs, 10_000), c.req.raw.signal);
          if (c.req.raw.signal.aborted) break;
          // Revoked while it waited.
          if (!await toolboxKey(db, toolboxId)) throw new NotFound("This toolbox was revoked");
        }
        const desired = await desiredOf(db, toolboxId, deps.secretsKey);
        const { publicKey: appPublicKey } = deps.appSigningKey;
        return c.json({ ...desired, appPublicKey } satisfies DesiredResponse);
      } finally {
        wakeUps.close();
      }
    })
    .post("/toolbox/report", async (c) => {
      const { toolboxId, body } = await signed(c);
      const report = parse(Report, body);
      const accepted = await acceptReport(db, toolboxId, report);
      // A call waits for it.
      if (accepted && report.refusals?.length) await renewDue(toolboxId);
      return c.json({ accepted } satisfies ReportResponse);
    })
    .post("/toolbox/rotate", async (c) => {
      const { toolboxId, body, publicKey: signedBy } = await signed(c);
      const { publicKey, proof } = parse(RotateRequest, body);
      if (!isProof(ROTATION, toolboxId, proof, publicKey)) {
        throw new Refusal(400, "proof: is not a signature by the new key");
      }
      // Signed by the new key itself: the answer to the first request was lost.
      if (publicKey !== signedBy && !await rotateKey(db, toolboxId, signedBy, publicKey)) {
        throw new Refusal(409, "The key was changed meanwhile");
      }
      deps.log.info("A toolbox changed its key", { toolbox: toolboxId });
      return c.json({ publicKey } satisfies RotateResponse);
    })
    .get("/toolbox/link", async (c) => {
      const { toolboxId } = await signed(c);
      if (!deps.links) {
        throw new Refusal(
          501,
          "This app cannot keep links: let it reach the toolbox (DTMA_ADDRESS)",
        );
      }
      if (c.req.header("upgrade")?.toLowerCase() !== "websocket") {
        throw new Refusal(426, "Ask for an upgrade to a WebSocket");
      }
      // The link has a ping of its own, which also measures.
      const { socket, response } = Deno.upgradeWebSocket(c.req.raw, { idleTimeout: 0 });
      deps.links.accept(toolboxId, socket);
      return response;
    })
    .post("/toolbox/forward/:toolboxId/:serverId", async (c) => {
      const { toolboxId, serverId } = c.req.param();
      const text = await forwarded(c);
      const instance = c.req.query("instance") ?? null;
      const endsWithLink = isSubscription(text);
      const link = deps.links?.tunnelOf(toolboxId);
      // The other replica looks where it is now.
      if (!link) throw new Refusal(503, "The toolbox's link does not end here any more");
      const call = async (signal: AbortSignal, onNotification?: (text: string) => void) => {
        const options = { signal, onNotification, endsWithLink };
        const { kind, text: answer } =
          await callOver(link, { serverId, instance }, text, options) ??
            failure(
              ErrorCode.serverUnavailable,
              "The link to the server's toolbox just broke, so the call was not made",
            );
        return `{"jsonrpc":"2.0","id":1,"${kind}":${answer}}`;
      };
      if (!endsWithLink && !MAY_BE_STREAMED.test(text)) {
        const answer = await call(c.req.raw.signal);
        return c.body(answer, 200, { "content-type": "application/json" });
      }
      return streamResponse(c.req.raw.signal, async (send, signal) => {
        const answer = await call(signal, (text) => send(text, true)).catch((error) => {
          if (!signal.aborted) throw error;
        });
        if (answer) send(answer);
      });
    })
    .onError((error) => {
      if (error instanceof Refusal) return refused(error.status, error.message);
      if (error instanceof SignatureError || error instanceof NotFound) {
        return refused(401, error.message);
      }
      if (error instanceof Forbidden) return refused(403, error.message);
      deps.log.error("A toolbox's request failed", errorFields(error));
      return refused(500, "Mooring failed to serve this; its log says why");
    });

  /** What fails with one server must not keep from its toolbox what it should run. */
  async function renewDue(toolboxId: string): Promise<void> {
    await renewAuthorizations(deps, toolboxId).catch((error) =>
      deps.log.error("Sign-ins of remote servers were not renewed", errorFields(error))
    );
  }

  async function signed(c: Context): Promise<
    { toolboxId: string; body: Uint8Array<ArrayBuffer>; publicKey: string }
  > {
    const body = await bytesOf(c);
    let publicKey = "";
    const toolboxId = await verifyRequest(
      c.req.raw,
      body,
      async (keyId) => publicKey = (await toolboxKey(db, keyId))?.publicKey ?? "",
      (keyId, nonce) => isFirstUse(db, keyId, nonce),
    );
    return { toolboxId, body, publicKey };
  }

  /** The call that another replica forwards, which has the app's key as we do. */
  async function forwarded(c: Context): Promise<string> {
    const body = await boundedBody(c.req.raw, FRAME_LIMIT_BYTES).catch(() => {
      throw new Refusal(413, "The call is too large");
    });
    const { publicKey } = deps.appSigningKey;
    const isFirst = (keyId: string, nonce: string) => isFirstUse(db, keyId, nonce);
    await verifyRequest(c.req.raw, body, (keyId) => keyId === "app" ? publicKey : null, isFirst);
    return new TextDecoder("utf-8", { fatal: true }).decode(body);
  }
}

function isSubscription(text: string): boolean {
  const method = "subscriptions/listen";
  return text.includes(`"${method}"`) && JSON.parse(text).method === method;
}

class Refusal extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

/** DTMA and app speak different versions of the protocol; the message says which one to upgrade. */
class OtherVersion extends Refusal {
  constructor(version: number) {
    const older = version < PROTOCOL_VERSION ? "the toolbox's DTMA" : "the app";
    super(
      426,
      `The toolbox speaks version ${version} of the protocol, the app version ${PROTOCOL_VERSION}: upgrade ${older}`,
    );
  }
}

function parse<T extends z.ZodType>(schema: T, body: Uint8Array): z.infer<T> {
  let value: unknown;
  try {
    value = JSON.parse(wellFormed(new TextDecoder("utf-8", { fatal: true }).decode(body)));
  } catch {
    throw new Refusal(400, "The body is not JSON in UTF-8");
  }
  // First: the other version's messages may have another form.
  const stated = (value as { facts?: { protocolVersion?: unknown } } | null)?.facts
    ?.protocolVersion;
  if (Number.isInteger(stated) && stated !== PROTOCOL_VERSION) {
    throw new OtherVersion(stated as number);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new Refusal(400, `${issue.path.map(String).join(".")}: ${issue.message}`);
}

/**
 * A JSON text without halves of surrogate pairs, which only its escapes can hold: a server's text may
 * have them, or was cut amid a pair, and neither jsonb nor RFC 8785 takes them.
 */
function wellFormed(json: string): string {
  return json.replace(
    /\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|[^])/g,
    (escape, half) => half ? "\\ufffd" : escape,
  );
}

async function bytesOf(c: Context): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await c.req.raw.arrayBuffer());
}

function refused(status: number, error: string): Response {
  return Response.json({ error }, { status });
}
