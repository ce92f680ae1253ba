/** DTMA's configuration: environment variables, checked at start, all mistakes told at once. */
import { z } from "zod";
import type { BaseParents } from "./base_images.ts";
import type { Indexes } from "./image_recipes.ts";
import type { HostFacts } from "./protocol.ts";

export interface Config {
  /** The app's base URL, without a slash at its end. */
  appUrl: string;
  /** Single-use; needed at the first start alone. */
  enrolmentToken: string | null;
  dataDirectory: string;
  listen: { hostname: string; port: number };
  /** How the app's calls come: it calls this DTMA, or this DTMA keeps a link to it and listens nowhere. */
  reach: "direct" | "tunnel";
  /** Where the app reaches the data path, if it is not where DTMA listens. */
  address: string | null;
  dockerHost: string;
  /** The limits of this host's own (ceiling.ts); null for the usual ones. */
  ceilingFile: string | null;
  egress: {
    /** Where servers' networks are made, as a CIDR range that nothing else on the host uses. */
    pool?: string;
    /** Private ranges that servers may be allowed to reach; without it none. */
    privateNetworks: string[];
  };
  /** Where packages come from in place of the public registries (image_recipes.ts). */
  indexes: Indexes;
  /** Parents of the base images that are made here; null where others make them. */
  baseParents: BaseParents | null;
  /** Directories that source trees may be built from; folders elsewhere are not read. */
  sourceDirectories: string[];
  /** The program that scans images for vulnerabilities, by its path; null for none. */
  scanner: string | null;
  /** End when standard input does: the parent process is gone, however it ended. */
  endsWithStdin: boolean;
  /** What mooring-dtma.sh started it as: `trial.…` or `current.…`. */
  run: string;
  /** What it went back from, for the app to tell. */
  rolledBack: HostFacts["rolledBack"];
  logFormat: "json" | "text";
}

const CIDR = /^(\d{1,3}\.){3}\d{1,3}\/([12]?\d|3[0-2])$/;

const optional = <T extends z.ZodType>(schema: T) =>
  z.preprocess((value) => value === "" ? undefined : value, schema.optional());

/** A mirror's URL: it stands in the build's Dockerfile, so it carries no credentials. */
const Index = optional(
  z.string().refine(
    isPlainUrl,
    "must be an https or http URL without user, query or fragment, such as https://mirror.example/npm/",
  ),
);

const Environment = z.object({
  MOORING_URL: z.string("is missing: the base URL of the Mooring app")
    .refine((text) => URL.canParse(text), "is not a URL")
    .refine((text) => !URL.canParse(text) || isBare(new URL(text)), {
      message: "must be https (or http), without user, query or fragment",
    }),
  MOORING_ENROLMENT_TOKEN: optional(
    z.string().regex(/^\S{20,200}$/, "is not an enrolment token: copy it from the toolbox page"),
  ),
  MOORING_ENROLMENT_TOKEN_FILE: optional(z.string()),
  DTMA_DATA_DIR: z.string("is missing: a directory that DTMA keeps its key and state in").min(1),
  DTMA_LISTEN: optional(
    z.string().regex(
      /^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):\d{1,5}$/,
      "must be host:port, such as 127.0.0.1:0",
    ).refine((text) => Number(text.split(":").at(-1)) <= 65535, "has a port over 65535"),
  ),
  DTMA_ADDRESS: optional(
    z.string().refine(
      (text) => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol),
      "must be the http or https URL where the app reaches this DTMA",
    ),
  ),
  DTMA_CEILING: optional(z.string()),
  DTMA_SUBNETS: optional(
    z.string().regex(CIDR, "must be an IPv4 range such as 10.213.0.0/16"),
  ),
  DTMA_PRIVATE_NETWORKS: optional(
    z.string().refine(
      (text) => text.split(",").every((range) => CIDR.test(range.trim())),
      "must be IPv4 ranges such as 10.1.0.0/16, separated by commas",
    ),
  ),
  DTMA_NPM_REGISTRY: Index,
  DTMA_PYPI_INDEX: Index,
  DTMA_NUGET_SOURCE: Index,
  NODE_BASE_IMAGE: optional(z.string()),
  PYTHON_BASE_IMAGE: optional(z.string()),
  DOTNET_BASE_IMAGE: optional(z.string()),
  DOTNET_SDK_IMAGE: optional(z.string()),
  DTMA_BASE_IMAGES: optional(z.enum(["make", "given"], "must be make or given")),
  DTMA_SOURCE_DIRECTORIES: optional(
    z.string().refine(
      (text) => listOf(text).every((path) => /^(\/(?!\.{1,2}(\/|$))[^/]+)+\/?$/.test(path)),
      "must be absolute paths such as /srv/mcp, separated by commas, without . and .. and not the root",
    ),
  ),
  DTMA_SCANNER: optional(
    z.string().regex(
      /^(\/(?!\.{1,2}\/)[^/,]+)*\/(trivy|grype)$/,
      "must be the absolute path of trivy or grype, such as /usr/local/bin/trivy",
    ),
  ),
  DOCKER_HOST: optional(
    z.string().startsWith("unix:///", "must be a unix socket, such as unix:///var/run/docker.sock"),
  ),
  DTMA_REACH: optional(z.enum(["direct", "tunnel"], "must be direct or tunnel")),
  DTMA_PLAIN_HTTP: optional(
    z.string().regex(/^[A-Za-z0-9.-]+$/, "must be one host name, such as app"),
  ),
  DTMA_PARENT: optional(z.enum(["stdin"], "can only be stdin")),
  DTMA_RUN: optional(z.string().regex(/^(current|trial)\.[\d.]+$/, "is what mooring-dtma sets")),
  DTMA_ROLLED_BACK: optional(z.string()),
  LOG_FORMAT: optional(z.enum(["json", "text"], "must be json or text")),
}).refine(
  (env) => !listensEverywhere(env.DTMA_LISTEN) || env.DTMA_ADDRESS || env.DTMA_REACH === "tunnel",
  {
    path: ["DTMA_ADDRESS"],
    message: "is needed when DTMA_LISTEN is every address: the URL where the app reaches this DTMA",
  },
).refine((env) => !env.MOORING_ENROLMENT_TOKEN || !env.MOORING_ENROLMENT_TOKEN_FILE, {
  path: ["MOORING_ENROLMENT_TOKEN"],
  message: "and MOORING_ENROLMENT_TOKEN_FILE exclude each other",
});

/**
 * Reads the configuration.
 * @param environment the variables, such as `Deno.env.toObject()`
 * @param readFile reads the file that `MOORING_ENROLMENT_TOKEN_FILE` names
 * @throws {TypeError} whose message lists every variable that is wrong, without its value
 */
export function readConfig(
  environment: Record<string, string | undefined>,
  readFile: (path: string) => string = (path) => Deno.readTextFileSync(path),
): Config {
  const mistakes: string[] = [];
  const path = environment.MOORING_ENROLMENT_TOKEN_FILE;
  let tokenInFile: string | undefined;
  if (path) {
    try {
      tokenInFile = readFile(path).trim();
    } catch (error) {
      // The token has served its purpose when the toolbox is enrolled, and may be gone with its file.
      if (!(error instanceof Deno.errors.NotFound)) {
        mistakes.push(`  MOORING_ENROLMENT_TOKEN_FILE cannot be read: ${(error as Error).message}`);
      }
    }
  }
  const { MOORING_URL: url = "", DTMA_PLAIN_HTTP: plainHost } = environment;
  if (URL.canParse(url) && !isPrivate(new URL(url), plainHost)) {
    mistakes.push(
      "  MOORING_URL must be https (http only for this machine itself, and for the host that " +
        "DTMA_PLAIN_HTTP names)",
    );
  }
  const parsed = Environment.safeParse(environment);
  for (const { path, message } of parsed.error?.issues ?? []) {
    mistakes.push(`  ${String(path[0])} ${message}`);
  }
  if (!parsed.success || mistakes.length > 0) {
    throw new TypeError(`The configuration is wrong:\n${[...new Set(mistakes)].join("\n")}`);
  }
  const env = parsed.data;
  const [, hostname, port] = /^\[?(.*?)\]?:(\d+)$/.exec(env.DTMA_LISTEN ?? "127.0.0.1:0")!;
  return {
    appUrl: env.MOORING_URL.replace(/\/+$/, ""),
    enrolmentToken: env.MOORING_ENROLMENT_TOKEN ?? tokenInFile ?? null,
    dataDirectory: env.DTMA_DATA_DIR,
    listen: { hostname, port: Number(port) },
    reach: env.DTMA_REACH ?? "direct",
    address: env.DTMA_ADDRESS?.replace(/\/+$/, "") ?? null,
    dockerHost: env.DOCKER_HOST ?? "unix:///var/run/docker.sock",
    ceilingFile: env.DTMA_CEILING ?? null,
    egress: {
      ...(env.DTMA_SUBNETS && { pool: env.DTMA_SUBNETS }),
      privateNetworks: listOf(env.DTMA_PRIVATE_NETWORKS),
    },
    indexes: {
      ...(env.DTMA_NPM_REGISTRY && { npm: env.DTMA_NPM_REGISTRY }),
      ...(env.DTMA_PYPI_INDEX && { pypi: env.DTMA_PYPI_INDEX }),
      ...(env.DTMA_NUGET_SOURCE && { nuget: env.DTMA_NUGET_SOURCE }),
    },
    baseParents: env.DTMA_BASE_IMAGES === "given" ? null : {
      ...(env.NODE_BASE_IMAGE && { node: env.NODE_BASE_IMAGE }),
      ...(env.PYTHON_BASE_IMAGE && { python: env.PYTHON_BASE_IMAGE }),
      ...(env.DOTNET_BASE_IMAGE && { dotnet: env.DOTNET_BASE_IMAGE }),
      ...(env.DOTNET_SDK_IMAGE && { dotnetSdk: env.DOTNET_SDK_IMAGE }),
    },
    sourceDirectories: listOf(env.DTMA_SOURCE_DIRECTORIES),
    scanner: env.DTMA_SCANNER ?? null,
    endsWithStdin: env.DTMA_PARENT === "stdin",
    run: env.DTMA_RUN ?? "current.0",
    rolledBack: rolledBackOf(env.DTMA_ROLLED_BACK),
    logFormat: env.LOG_FORMAT ?? "text",
  };
}

/** What stands between commas. */
function listOf(text = ""): string[] {
  return text.split(",").map((each) => each.trim()).filter(Boolean);
}

function isPlainUrl(text: string): boolean {
  // White space would part the words of an installer's command line.
  if (!URL.canParse(text) || /\s/.test(text)) return false;
  const { protocol, username, password, search, hash } = new URL(text);
  return /^https?:$/.test(protocol) && !(username || password || search || hash);
}

function isBare(url: URL): boolean {
  return /^https?:$/.test(url.protocol) &&
    !(url.username || url.password || url.search || url.hash);
}

/** Secrets of servers come over this URL. */
function isPrivate({ protocol, hostname }: URL, plainHost?: string): boolean {
  return protocol === "https:" || /^127(\.\d+){3}$/.test(hostname) ||
    ["localhost", "[::1]", plainHost].includes(hostname);
}

/** What mooring-dtma.sh wrote: when, the version, why; null when it is something else. */
function rolledBackOf(text = ""): Config["rolledBack"] {
  const [, at, version, reason] =
    /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) (\S{1,40}) ([^]+)$/.exec(text.trim()) ?? [];
  return at ? { at, version, reason: reason.slice(0, 500) } : null;
}

function listensEverywhere(listen: string | undefined): boolean {
  return listen !== undefined && /^(0\.0\.0\.0|\[(0*:)+0*\]):/.test(listen);
}
