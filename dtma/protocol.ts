/**
 * The wire between the app and a toolbox's DTMA: what each side may say, as zod schemas.
 * This is the only file of `dtma/` that the app imports (with what it re-exports), so a change
 * here is a change of protocol: raise {@link PROTOCOL_VERSION}.
 *
 * Control path (DTMA calls the app; `POST`, JSON, signed by the toolbox's key but for enrolment):
 *
 * | path | request | response |
 * | --- | --- | --- |
 * | `/toolbox/enrol` | {@link EnrolRequest} | {@link EnrolResponse} |
 * | `/toolbox/desired` | {@link DesiredRequest} | {@link DesiredResponse}, held until something changes |
 * | `/toolbox/report` | {@link Report} | {@link ReportResponse} |
 * | `/toolbox/rotate` | {@link RotateRequest} | {@link RotateResponse} |
 *
 * Data path (the app calls DTMA; signed by the app's key): `POST /mcp/{serverId}` with one MCP
 * 2026-07-28 request; answered with a JSON-RPC response as `application/json`, or, when progress or
 * log messages were asked for, of who polls and by `subscriptions/listen`, as `text/event-stream` that
 * ends with the response. `?instance=` names an instance.
 *
 * Many calls go over one link (link.ts), which the app opens with `GET /link` of DTMA, signed by the
 * app's key, or DTMA with `GET /toolbox/link` of the app, signed by the toolbox's.
 */
import { z } from "zod";

export type {
  ApiBody,
  ApiCredential,
  ApiField,
  ApiParameter,
  ApiPlan,
  ApiTool,
} from "./api_adapter/plan.mts";
export { boundedBody } from "./body.ts";
export { BriefMap } from "./brief_map.ts";
export { abortSignalOf, BriefSignal, type CallSignal } from "./call_signal.ts";
export { after, type Deadline } from "./deadlines.ts";
export { decoded, isWord, joined, keyAt, skimJson, type Span } from "./json_bytes.ts";
export { DEPTH_LIMIT, objectMembers, objectText, outline } from "./json_text.ts";
export {
  acceptedLink,
  dialledLink,
  Link,
  type LinkCallOptions,
  LinkError,
  type LinkOptions,
  type LinkSocket,
  linkSocket,
  type LinkTarget,
  tunnelPurpose,
} from "./link.ts";
export {
  canonicalHash,
  instructionsHash,
  type PromptDefinition,
  promptHash,
  type TemplateDefinition,
  templateHash,
  type ToolDefinition,
} from "./tool_definition.ts";
export { DTMA_VERSION } from "./version.ts";
export {
  generateSigningKey,
  isProof,
  memoryNonces,
  prove,
  SignatureError,
  type SigningKey,
  signRequest,
  verifyRequest,
} from "./signature.ts";

/** Version of this wire protocol; a DTMA and an app of different versions refuse each other by name. */
export const PROTOCOL_VERSION = 2;

/** The MCP revision spoken between bridge and DTMA (the waist). */
export const WAIST_REVISION = "2026-07-28";

/**
 * `_meta` key by which the bridge names the pinned hash of the tool or prompt it asks for (see
 * {@link canonicalHash} and {@link promptHash}); DTMA strips it.
 */
export const PIN_META = "dev.mooring/definitionHash";

/**
 * `_meta` key, optional, by which the bridge tells apart who calls: any string, the same for calls
 * whose questions may be shown to each other's callers, such as those of one session. DTMA strips it.
 * Without it a server of an older revision can ask its caller something only while it has one call.
 */
export const CALLER_META = "dev.mooring/caller";

/**
 * Member that stands for an error, `{ code, message }`, where 2026-07-28 has no place for one: of an input
 * response, in place of a result, with which a server of an older revision is answered; and of the data of
 * error -32021, for the server's own error, which came of a question that its client did not declare.
 */
export const INPUT_ERROR = "dev.mooring/error";

/** The extension of 2026-07-28 by which a call may be answered with a task (SEP-2663). */
export const TASKS_EXTENSION = "io.modelcontextprotocol/tasks";

/**
 * `_meta` key, optional, of what `tasks/get` answers: the newest progress of a task, as the params of
 * `notifications/progress` without their token. Of a server of 2025-11-25, whose tasks have progress.
 */
export const TASK_PROGRESS_META = "dev.mooring/progress";

/**
 * Method of Mooring's own on the data path: the log of a server that its toolbox keeps, as
 * `{ "text": ... }`. It goes to no server.
 */
export const LOG_METHOD = "dev.mooring/log";

/** Ends the caller's own instance, if there is one: of a session that was deleted. Answered `{}`. */
export const END_METHOD = "dev.mooring/end";

/**
 * Cancels the call that waits under `params.requestState` for answers, if it does: of a client that
 * gave it up between two tries. Answered `{}`.
 */
export const CANCEL_METHOD = "dev.mooring/cancel";

/**
 * Between DTMA and the adapter of a remote server alone, on its stdio: the headers to send from now on
 * ({@link ServerSpec}'s), in `params.headers`; and, the other way, what the server refused
 * ({@link Refusal}, less its server's id).
 */
export const HEADERS_METHOD = "dev.mooring/headers";
export const REFUSED_METHOD = "dev.mooring/refused";

/**
 * A notification of the adapter's, and of DTMA's to a caller whose `_meta` says that it polls
 * ({@link POLLS_META}): the server has let go of the stream on which it will answer, and is asked for the
 * rest after `retryMs` (2025-11-25, transports#sending-messages-to-the-server).
 */
export const LET_GO_METHOD = "dev.mooring/letGo";
/**
 * From a remote server's adapter to DTMA: the session was lost and another one is open, which knows nothing of
 * what the one before was told.
 */
export const REOPENED_METHOD = "dev.mooring/reopened";
/**
 * The adapter's error for a call that it did not make, since it would have gone to another session than the one
 * that DTMA has listed, in which a name may be of something else.
 */
export const UNLISTED_CODE = -31020;
/** In a call's `_meta`: who waits for it can let go as well. */
export const POLLS_META = "dev.mooring/polls";

/**
 * `_meta` key, optional, of `notifications/subscriptions/acknowledged` for a listener who wants one resource alone and
 * is not told of it: the error of its server, of an older revision, which 2026-07-28 has no place for.
 */
export const UNTOLD_META = "dev.mooring/untold";

/**
 * Method of Mooring's own on the data path: what is in a server's image, as `{ "bom": ... }` with a
 * CycloneDX document, or null where none is kept. It goes to no server.
 */
export const BOM_METHOD = "dev.mooring/bom";

/** Largest JSON-RPC frame that is read from a server or a client, in bytes. */
export const FRAME_LIMIT_BYTES = 4 * 1024 * 1024;

/** JSON-RPC error codes of Mooring's own, outside the range JSON-RPC and MCP reserve. */
export const ErrorCode = {
  /** The server is not running, so the call was not made. */
  serverUnavailable: -31001,
  /** The server went away or sent a broken answer after it was given the call: it may have run. */
  indeterminate: -31002,
  /** The tool's present definition is not the approved one, so the call was not made. */
  definitionChanged: -31003,
  /** The server's answer was over {@link FRAME_LIMIT_BYTES}. */
  answerTooLarge: -31004,
  /** The server did not answer in time; it was asked to cancel, and may have run the call. */
  timedOut: -31005,
} as const;

const Id = z.uuid();

/** Whose an instance is: an agent's or a session's id. */
export const InstanceKey = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/);

/** `host:port` a server may reach; `*` for any host, `*.example.com` for any name below. */
export const HostPort = z.string().regex(/^(\*|(\*\.)?[a-z0-9.-]+):\d{1,5}$/);

/** An exact npm package version, from which DTMA builds the image. */
export const NpmPackage = z.object({
  registry: z.literal("npm"),
  // No part begins with a dot or a dash: npm would take it for a folder or an option.
  name: z.string().regex(/^(@[a-z0-9_~][a-z0-9._~-]*\/)?[a-z0-9_~][a-z0-9._~-]*$/).max(214),
  version: z.string().regex(/^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$/).max(64),
  installScripts: z.boolean(),
});
export type NpmPackage = z.infer<typeof NpmPackage>;

/** An exact release on PyPI, or on the index that the toolbox is set to. */
export const PypiPackage = z.object({
  registry: z.literal("pypi"),
  name: z.string().regex(/^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/).max(100),
  /** As PEP 440 writes a version in its normal form. */
  version: z.string().regex(
    /^(\d+!)?\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9]+(\.[a-z0-9]+)*)?$/,
  ).max(64),
  /** The console script that is the server; without it the one of the package's own name, or the only one. */
  command: z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/).max(100).optional(),
  /** Take source distributions too, whose build runs code of theirs; else wheels alone. */
  installScripts: z.boolean().default(false),
});
export type PypiPackage = z.infer<typeof PypiPackage>;

/** An exact version of a .NET tool on NuGet, or on the source that the toolbox is set to. */
export const NugetPackage = z.object({
  registry: z.literal("nuget"),
  name: z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/).max(100),
  version: z.string().regex(/^\d+(\.\d+){1,3}(-[0-9A-Za-z][0-9A-Za-z.-]*)?$/).max(64),
});
export type NugetPackage = z.infer<typeof NugetPackage>;

/** An image of a registry, by digest: a tag could be moved to another image. */
export const OciPackage = z.object({
  registry: z.literal("oci"),
  /** With its registry's host, such as `docker.io/mcp/time`; no tag. */
  image: z.string().regex(
    /^([a-z0-9][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)+|localhost)(:\d{1,5})?(\/[a-z0-9]+([._-]+[a-z0-9]+)*)+$/,
  ).max(255),
  digest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  /** What starts the server, in place of the image's own Entrypoint and Cmd. */
  command: z.array(z.string().min(1).max(4096)).min(1).max(64).optional(),
});
export type OciPackage = z.infer<typeof OciPackage>;

/** A source tree with a Dockerfile, at one commit. */
export const SourcePackage = z.object({
  registry: z.literal("source"),
  /** `git`: the Docker Engine fetches it. `folder`: on the toolbox, in a directory that it allows. */
  kind: z.enum(["git", "folder"]),
  /** An http(s) URL without user, query or fragment; or an absolute path. */
  location: z.string().max(500),
  /** The whole hash of a git commit: content cannot change under it. */
  revision: z.string().regex(/^([0-9a-f]{40}|[0-9a-f]{64})$/),
  /** The Dockerfile's path within the tree. */
  dockerfile: z.string().regex(
    /^(?!.*(^|\/)\.\.?(\/|$))[A-Za-z0-9_.][A-Za-z0-9_.-]*(\/[A-Za-z0-9_.][A-Za-z0-9_.-]*)*$/,
  )
    .max(200),
}).refine(
  ({ kind, location }) =>
    kind === "git"
      ? /^https?:\/\/[A-Za-z0-9][A-Za-z0-9.-]*(:\d{1,5})?(\/[A-Za-z0-9_~][A-Za-z0-9._~-]*)+$/
        .test(location)
      : /^(\/[A-Za-z0-9_][A-Za-z0-9 ._-]*)+$/.test(location),
  {
    path: ["location"],
    message: "must be an http(s) URL of a git repository, or an absolute path of a folder",
  },
);
export type SourcePackage = z.infer<typeof SourcePackage>;

/**
 * A remote server, which runs elsewhere: what runs here is an adapter, in a container like any other
 * (remote_adapter/), that reaches the server's host and nothing else.
 */
export const RemotePackage = z.object({
  registry: z.literal("remote"),
  /** Of its Streamable HTTP or HTTP+SSE endpoint; shown on pages, so no secret may be in it. */
  url: z.url({ protocol: /^https?$/ }).max(2000),
}).refine(({ url }) => {
  const { username, password, hash } = new URL(url);
  return !(username || password || hash);
}, { path: ["url"], message: "must have neither a user nor a fragment" });
export type RemotePackage = z.infer<typeof RemotePackage>;

/** Largest plan of a REST API, in characters: {@link ApiPackage}. */
export const PLAN_LIMIT = 512 * 1024;

/**
 * A REST API: what runs here is an adapter (api_adapter/), whose tools are operations of the API, and
 * which reaches its host and nothing else.
 */
export const ApiPackage = z.object({
  registry: z.literal("openapi"),
  /** What its operations' paths are put behind; shown on pages. */
  url: z.url({ protocol: /^https?$/ }).max(2000),
  /**
   * The tools and how each is asked for: `ApiPlan` of api_adapter/plan.mts, as JSON. A text, so that
   * nothing on the way changes the order of a definition's members.
   */
  plan: z.string().min(2).max(PLAN_LIMIT),
}).refine(({ url }) => {
  const { username, password, search, hash } = new URL(url);
  return !(username || password || search || hash);
}, { path: ["url"], message: "must have neither a user nor a query nor a fragment" });
export type ApiPackage = z.infer<typeof ApiPackage>;

/** What DTMA makes a server's image from: exact, so that it is the same tomorrow. */
export const Package = z.discriminatedUnion("registry", [
  NpmPackage,
  PypiPackage,
  NugetPackage,
  OciPackage,
  SourcePackage,
  RemotePackage,
  ApiPackage,
]);
export type Package = z.infer<typeof Package>;

/** A package as people write it: `name@version`, an image's or a repository's name at its hash. */
export function packageTitle(wanted: Package): string {
  switch (wanted.registry) {
    case "oci":
      return `${wanted.image}@${wanted.digest.slice(0, 19)}`;
    case "source":
      return `${wanted.location}@${wanted.revision.slice(0, 12)}`;
    case "remote":
    case "openapi":
      return wanted.url;
    default:
      return `${wanted.name}@${wanted.version}`;
  }
}

/** A directory that the server may write, kept in a Docker volume. */
export const VolumeSpec = z.object({
  name: z.string().regex(/^[a-z0-9][a-z0-9-]{0,30}$/),
  /** Where it is mounted: an absolute path that hides nothing of the system. */
  path: z.string().regex(/^\/(data|home|var\/lib|work)(\/[A-Za-z0-9._-]+)*$/).max(200)
    .refine((path) => !path.split("/").includes(".."), "must not go up"),
});
export type VolumeSpec = z.infer<typeof VolumeSpec>;

/**
 * How a server speaks in its container. Over HTTP it listens there, on whichever of its addresses, and
 * DTMA reaches it from within its network: no port is published.
 */
export const Transport = z.discriminatedUnion("type", [
  z.object({ type: z.literal("stdio") }),
  z.object({
    type: z.enum(["streamable-http", "sse"]),
    port: z.int().min(1).max(65_535),
    /** Of its Streamable HTTP endpoint, or of the stream of HTTP+SSE; without a query. */
    path: z.string().regex(/^\/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*$/).max(200),
  }),
]);
export type Transport = z.infer<typeof Transport>;
export type HttpTransport = Exclude<Transport, { type: "stdio" }>;

/** On which the adapter speaks, and DTMA with it. */
export const STDIO: Transport = { type: "stdio" };

/**
 * How far a server is trusted. `standard`: in a sandbox (gVisor, Kata) where the toolbox has one, else
 * on the host's kernel under the whole policy. `untrusted`: in a sandbox or not at all.
 */
export const Tier = z.enum(["standard", "untrusted"]);
export type Tier = z.infer<typeof Tier>;

/** A runtime of the engine's whose containers have a kernel of their own. */
export const Sandbox = z.object({
  /** As the engine calls it. */
  runtime: z.string().max(100),
  /** `other`: on the word of the host's owner. */
  kind: z.enum(["gvisor", "kata", "other"]),
});
export type Sandbox = z.infer<typeof Sandbox>;

/** Headers by their names in small letters. */
const LiveHeaders = z.record(z.string().regex(/^[a-z][a-z0-9-]{0,99}$/), z.string().max(16_384));

/** The inputs of a server's program, secrets apart so that they can be kept out of labels, logs and reports. */
const Inputs = z.object({
  arguments: z.array(z.string().max(8192)).max(64),
  environment: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/), z.string().max(32768)),
  secrets: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/), z.string().max(32768)),
  /** Secrets that the server reads from `/run/secrets/NAME`, a file in memory. */
  secretFiles: z.record(
    z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/),
    z.string().max(65536),
  )
    .default({}),
});

/**
 * What one server should be: everything DTMA needs to run it, and nothing it could be misled by
 * (never a raw HostConfig).
 */
export const ServerSpec = z.object({
  serverId: Id,
  generation: z.int().positive(),
  /** For container names and messages; not unique. */
  name: z.string().regex(/^[a-z0-9][a-z0-9-]{0,40}$/),
  running: z.boolean(),
  package: Package,
  ...Inputs.shape,
  /** By an agent's id: what its own instance is started with in place of the inputs above. */
  instanceInputs: z.record(
    InstanceKey,
    Inputs.extend({
      headers: LiveHeaders.optional(),
      /** Whose the headers are, if they are of an account of its own: with another one it is another instance. */
      account: Id.optional(),
    }),
  ).optional(),
  /**
   * Of a remote server: sent to it with each request, such as an access token, which is renewed while
   * the adapter runs on. So they are told to it over its stdio, and are no part of what it is known by.
   */
  headers: LiveHeaders.optional(),
  network: z.object({ hosts: z.array(HostPort).max(64) }),
  /** Named volumes of the server's own, which outlive its containers; removed with the server on request. */
  volumes: z.array(VolumeSpec).max(4).default([]),
  memoryMiB: z.int().min(64).max(65_536).default(512),
  /**
   * One container for all callers, or one for each agent or session, started by its first call. Whose
   * it is says the key of the call, so that to DTMA the two are the same.
   */
  instances: z.enum(["shared", "agent", "session"]).default("shared"),
  /** An instance that was not called for so long is stopped, and started by the next call. */
  idleStopS: z.int().min(5).max(604_800).nullable().default(null),
  /** Grows when a person asks for a restart: the same spec with another number starts anew. */
  restart: z.int().nonnegative().default(0),
  /** A DTMA that does not know of tiers would run any: the app sends it no untrusted server. */
  tier: Tier.default("standard"),
  /** One that does not know of transports would wait for it on stdio: the app sends it stdio alone. */
  transport: Transport.default(STDIO),
});
export type ServerSpec = z.infer<typeof ServerSpec>;

/** What DTMA knows of its host, sent with every pull so that the toolbox page is true. */
export const HostFacts = z.object({
  dtmaVersion: z.string().max(40),
  protocolVersion: z.int(),
  /** It knows {@link Tier}: without it an untrusted server would be run like any other. */
  knowsTiers: z.boolean().optional(),
  /** It knows {@link Transport}: without it a server over HTTP would be taken for one on stdio. */
  knowsTransports: z.boolean().optional(),
  /** It knows the headers of a {@link ServerSpec}: without it a server would be called without its token. */
  knowsHeaders: z.boolean().optional(),
  /** It knows the inputs of instances: without it an agent would get the credentials of all. */
  knowsInstanceInputs: z.boolean().optional(),
  /** It knows the accounts of instances: without it one would go on at its server under another account. */
  knowsInstanceAccounts: z.boolean().optional(),
  /** It knows {@link ApiPackage}: without it such a server is refused for a spec that does not hold. */
  knowsApis: z.boolean().optional(),
  /** What scans images for vulnerabilities; null: nothing does. Not there: DTMA cannot. */
  scanner: z.string().max(20).nullable().optional(),
  /**
   * How the app's calls come here: it dials `address`, or this DTMA, which nobody can dial, keeps a
   * link to the app.
   */
  reach: z.enum(["direct", "tunnel"]).default("direct"),
  /** Where the app reaches the data path, such as `http://127.0.0.1:41234`; null with a tunnel. */
  address: z.url().nullable().default(null),
  /** This host's clock less the app's; null when it is not known. */
  clockOffsetMs: z.int().nullable().optional(),
  /** What to do about the clocks, when they are too far apart for signatures before long. */
  clockWarning: z.string().max(500).nullable().optional(),
  /** Between this DTMA and the app, there and back; null when it is not known. */
  roundTripMs: z.number().nonnegative().nullable().optional(),
  /** The last upgrade was rolled back: to which version it was, and why. Until one succeeds. */
  rolledBack: z.object({
    at: z.iso.datetime(),
    version: z.string().max(40),
    reason: z.string().max(500),
  }).nullable().optional(),
  engine: z.discriminatedUnion("state", [
    z.object({
      state: z.literal("ready"),
      version: z.string().max(80),
      apiVersion: z.string().max(20),
      os: z.string().max(200),
      architecture: z.string().max(40),
      cpus: z.int(),
      memoryBytes: z.int(),
      /** What answers, where it is not a Docker Engine. */
      product: z.string().max(40).optional(),
      /** What a person should know of it. */
      warnings: z.array(z.string().max(500)).max(10).optional(),
      /** What it can start containers by; `shared` are those on the host's kernel. */
      runtimes: z.array(z.object({
        name: z.string().max(100),
        kind: z.enum(["shared", ...Sandbox.shape.kind.options]),
      })).max(20).optional(),
      /** The one of them that sandboxes servers; null: none does. */
      sandbox: Sandbox.extend({
        /** Servers of tier `standard` run in it too. */
        standard: z.boolean(),
        /** What it does otherwise than the policy says. */
        differs: z.array(z.string().max(500)).max(10),
      }).nullable().optional(),
    }),
    /** No Docker Engine answers: why, and what to do about it. */
    z.object({
      state: z.literal("absent"),
      reason: z.string().max(500),
      advice: z.string().max(500),
      /** When it was found to be away. */
      since: z.iso.datetime().optional(),
    }),
  ]),
}).refine(({ reach, address }) => reach === "tunnel" || address !== null, {
  path: ["address"],
  message: "is needed where the app calls this DTMA",
});
export type HostFacts = z.infer<typeof HostFacts>;

export const EnrolRequest = z.object({
  /** Single-use, valid for 15 minutes. */
  token: z.string().min(20).max(200),
  /** The toolbox's new Ed25519 public key, as base64url of its 32 raw bytes. */
  publicKey: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
  facts: HostFacts,
});
export type EnrolRequest = z.infer<typeof EnrolRequest>;

export const EnrolResponse = z.object({
  toolboxId: Id,
  /** The app's Ed25519 public key, by which DTMA knows data-path requests. */
  appPublicKey: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
});
export type EnrolResponse = z.infer<typeof EnrolResponse>;

export const DesiredRequest = z.object({
  facts: HostFacts,
  /** The version last received; the app answers at once when it has another, else it waits. */
  haveVersion: z.string().max(80).nullable(),
  waitMs: z.int().min(0).max(60_000),
  /**
   * This DTMA's start, as in its reports. Of two DTMAs with one key the one that started later is the
   * toolbox; the other is answered 409 with {@link OVERTAKEN}.
   */
  epoch: z.uuid().optional(),
});
/** What the app says, with 409, to the DTMA that started first. */
export const OVERTAKEN = "Another DTMA with this toolbox's key started later";

/**
 * A DTMA's exit code when the app wants it no more: its toolbox was revoked, or another DTMA with its
 * key started later. Started again at once, two with one key would take turns for ever.
 */
export const EXIT_UNWANTED = 3;

export type DesiredRequest = z.infer<typeof DesiredRequest>;

export const DesiredResponse = z.object({
  version: z.string().max(80),
  /** The app's key of now: another one than at enrolment once the app's secrets key was changed. */
  appPublicKey: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
  /** All servers of this toolbox, stopped ones too. What is not listed is to be removed whole. */
  servers: z.array(ServerSpec),
  /**
   * Servers that a person removed, until this toolbox reports that they are gone: also one that is
   * gone already, whose report was lost. Of volumes only those go that are asked for.
   */
  removing: z.array(z.object({ serverId: Id, deleteVolumes: z.boolean() })).optional(),
  /** The toolbox is to make itself another key ({@link RotateRequest}). */
  rotateKey: z.boolean().optional(),
});
export type DesiredResponse = z.infer<typeof DesiredResponse>;

/**
 * Another key for the toolbox, signed by the one of now. Sent again, signed by the new one, it is
 * answered as if for the first time: so a DTMA learns what became of a request whose answer was lost.
 */
export const RotateRequest = z.object({
  /** As base64url of its 32 raw bytes. */
  publicKey: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
  /** `prove(ROTATION, toolboxId, …)` by the new key. */
  proof: z.string().regex(/^[A-Za-z0-9_-]{86}$/),
});
export type RotateRequest = z.infer<typeof RotateRequest>;

/** What a proof of a new key is for. */
export const ROTATION = "toolbox key rotation";

/** The public key that the toolbox has in the app now. */
export const RotateResponse = z.object({ publicKey: z.string() });
export type RotateResponse = z.infer<typeof RotateResponse>;

/**
 * One layer's state. `waiting` for the layer before it, `working` now, `ready`, `idle` until the
 * next call, `stopped` on request, or `failed` with the reason and what to do next.
 */
export const LayerState = z.object({
  state: z.enum(["waiting", "working", "ready", "idle", "stopped", "failed"]),
  /** One sentence for a person. */
  detail: z.string().max(2000).default(""),
  /** When `failed`: what a person can do about it. */
  nextStep: z.string().max(1000).optional(),
  /** 0 to 1, while `working`, where it is known. */
  progress: z.number().min(0).max(1).optional(),
  /** RFC 3339, when this state began. */
  since: z.iso.datetime(),
});
export type LayerState = z.infer<typeof LayerState>;

/** The four layers of a server's health, in the order they come up. */
export const LAYERS = ["image", "container", "handshake", "tools"] as const;
export type Layer = (typeof LAYERS)[number];

/** An instance of a server that is one agent's or session's own. */
export const AgentInstance = z.object({
  /** The agent's or session's id. */
  instance: InstanceKey,
  state: z.enum(["starting", "ready"]),
  containerId: z.string().max(80).nullable(),
  since: z.iso.datetime(),
});
export type AgentInstance = z.infer<typeof AgentInstance>;

/** How the running server answers, from DTMA's own pings between calls. */
export const Health = z.object({
  /** Time of the last answer to a ping; null when none came. */
  latencyMs: z.number().nonnegative().nullable(),
  at: z.iso.datetime(),
});
export type Health = z.infer<typeof Health>;

/** What DTMA sees of one server. Sent whole at each change: the newest replaces the one before. */
export const Observation = z.object({
  serverId: Id,
  /** The generation that these layers are about. */
  generation: z.int().positive(),
  layers: z.record(z.enum(LAYERS), LayerState),
  imageDigest: z.string().max(100).nullable(),
  containerId: z.string().max(80).nullable(),
  /** From the handshake: name, version, revision, instructions of the server, as it sent them. */
  serverInfo: z.record(z.string(), z.unknown()).nullable(),
  restarts: z.int().nonnegative(),
  /** The generation whose container answers calls: an older one until the present one is ready. */
  servingGeneration: z.int().positive().nullable().default(null),
  /** This generation will not be tried again until a person or the app changes something. */
  gaveUp: z.boolean().default(false),
  health: Health.nullable().default(null),
  instances: z.array(AgentInstance).max(256).default([]),
  /** What its container runs in; null: on the host's kernel. */
  sandbox: Sandbox.nullable().default(null),
  /** Why it is not in the sandbox that the toolbox has. */
  unsandboxed: z.string().max(500).nullable().default(null),
  /** Null while a volume's size is not known. */
  volumes: z.array(z.object({ name: z.string().max(31), bytes: z.int().nonnegative().nullable() }))
    .max(4).default([]),
  /** The last lines of stderr and of the build, newest last, control characters made visible. */
  logTail: z.array(z.string().max(2000)).max(100),
  /** The tool definitions exactly as the server lists them; null when not (yet) listed. */
  tools: z.array(z.looseObject({ name: z.string() })).nullable(),
  /** As `tools`; null as well of a server that could not list them. */
  prompts: z.array(z.looseObject({ name: z.string() })).nullable().optional(),
  resourceTemplates: z.array(z.looseObject({ name: z.string(), uriTemplate: z.string() }))
    .nullable().optional(),
  /** From the handshake, as the server sent them. */
  instructions: z.string().nullable().optional(),
  capabilities: z.record(z.string(), z.unknown()).nullable().optional(),
});
export type Observation = z.infer<typeof Observation>;

/** Something that happened to a server, kept for the page's list of events. */
export const ReportedEvent = z.object({
  serverId: Id,
  generation: z.int().positive(),
  at: z.iso.datetime(),
  layer: z.enum(LAYERS),
  level: z.enum(["info", "warning", "error"]),
  message: z.string().max(2000),
});
export type ReportedEvent = z.infer<typeof ReportedEvent>;

/** Use of one instance's resources at one time, from the Engine's stats. */
export const ResourceSample = z.object({
  serverId: Id,
  /** Null of the shared instance, else whose it is. */
  instance: z.string().max(80).nullable(),
  at: z.iso.datetime(),
  /** 1 is one whole processor. */
  cpus: z.number().nonnegative(),
  memoryBytes: z.int().nonnegative(),
  receivedBytes: z.int().nonnegative(),
  sentBytes: z.int().nonnegative(),
  pids: z.int().nonnegative(),
});
export type ResourceSample = z.infer<typeof ResourceSample>;

/** A connection or a name that the egress proxy refused a server, counted since the last report. */
export const Denial = z.object({
  serverId: Id,
  host: z.string().min(1).max(253),
  /** 0 when only the name was asked for. */
  port: z.int().min(0).max(65_535),
  reason: z.string().max(300),
  count: z.int().positive(),
  at: z.iso.datetime(),
});
export type Denial = z.infer<typeof Denial>;

/** How bad a vulnerability is, the worst first. */
export const SEVERITIES = ["critical", "high", "medium", "low", "negligible", "unknown"] as const;
export type Severity = (typeof SEVERITIES)[number];

/** One vulnerability of one package, as a scanner says it: untrusted text. */
export const Finding = z.object({
  /** Such as CVE-2024-21538 or GHSA-... */
  id: z.string().max(100),
  package: z.string().max(200),
  installed: z.string().max(100).nullable(),
  /** Null where no version mends it yet. */
  fixed: z.string().max(200).nullable(),
  title: z.string().max(300).nullable(),
  severity: z.enum(SEVERITIES),
  /** https, or none. */
  url: z.string().max(500).nullable(),
});
export type Finding = z.infer<typeof Finding>;

const ScanResult = z.object({
  counts: z.record(z.enum(SEVERITIES), z.int().nonnegative()),
  /** The worst of them, those that can be mended first. */
  findings: z.array(Finding).max(50),
  /** Findings in a form that is not known here. */
  unread: z.int().nonnegative(),
});
export type ScanResult = z.infer<typeof ScanResult>;

/** What a scanner found in an image's bill of materials. */
export const ImageScan = z.object({
  imageId: z.string().max(100),
  at: z.iso.datetime(),
  /** Packages that the bill of materials names: no others were looked at. */
  components: z.int().nonnegative(),
  scanner: z.object({
    name: z.string().max(20),
    version: z.string().max(60).nullable(),
    /** When its database was made. */
    databaseAt: z.iso.datetime().nullable(),
  }).nullable(),
  outcome: z.discriminatedUnion("state", [
    ScanResult.extend({ state: z.literal("scanned") }),
    z.object({ state: z.literal("failed"), reason: z.string().max(500) }),
  ]),
});
export type ImageScan = z.infer<typeof ImageScan>;

/**
 * That a remote server refused a request: for its credentials (401), or for what they allow (403).
 * What it says of it is untrusted text.
 */
export const Refusal = z.object({
  serverId: Id,
  /** Of the instance that was refused, where it is called with one of its own. */
  account: Id.optional(),
  status: z.union([z.literal(401), z.literal(403)]),
  /** From its challenge (RFC 6750, section 3). */
  error: z.string().max(100).optional(),
  scope: z.string().max(2000).optional(),
});
export type Refusal = z.infer<typeof Refusal>;

/** Observations and events in order: `(epoch, sequence)` grows; what was seen already is ignored. */
export const Report = z.object({
  /** New at every start of DTMA; later ones sort after earlier ones (uuid v7). */
  epoch: Id,
  sequence: z.int().nonnegative(),
  observations: z.array(Observation),
  events: z.array(ReportedEvent).max(1000),
  /** Servers that were removed whole: container, network, image when no other server uses it. */
  removed: z.array(Id),
  samples: z.array(ResourceSample).max(2000).optional(),
  denials: z.array(Denial).max(1000).optional(),
  /** Of each server the newest scan of its image. */
  scans: z.array(z.object({ serverId: Id, scan: ImageScan })).max(100).optional(),
  /** Of each server, and of each account of an instance, the newest. */
  refusals: z.array(Refusal).max(1000).optional(),
});
export type Report = z.infer<typeof Report>;

export const ReportResponse = z.object({ accepted: z.boolean() });
export type ReportResponse = z.infer<typeof ReportResponse>;

/** The variables that DTMA reads: what its `--allow-env` has to name. */
export const ENVIRONMENT = [
  "MOORING_URL",
  "MOORING_ENROLMENT_TOKEN",
  "MOORING_ENROLMENT_TOKEN_FILE",
  "DTMA_DATA_DIR",
  "DTMA_LISTEN",
  "DTMA_ADDRESS",
  "DTMA_CEILING",
  "DTMA_SUBNETS",
  "DTMA_PRIVATE_NETWORKS",
  "DTMA_NPM_REGISTRY",
  "DTMA_PYPI_INDEX",
  "DTMA_NUGET_SOURCE",
  "DTMA_SOURCE_DIRECTORIES",
  "DTMA_SCANNER",
  "DTMA_BASE_IMAGES",
  "NODE_BASE_IMAGE",
  "PYTHON_BASE_IMAGE",
  "DOTNET_BASE_IMAGE",
  "DOTNET_SDK_IMAGE",
  "DTMA_PARENT",
  "DTMA_REACH",
  "DTMA_PLAIN_HTTP",
  "DTMA_RUN",
  "DTMA_ROLLED_BACK",
  "DOCKER_HOST",
  "LOG_FORMAT",
  "NODE_EXTRA_CA_CERTS",
];
