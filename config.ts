/** The app's configuration: environment variables, checked at start, all mistakes told at once. */
import { z } from "zod";

export interface Config {
  port: number;
  host: string;
  /** Where browsers and agents reach the app; links, cookies and client configurations follow it. */
  baseUrl: URL;
  dataDirectory: string;
  /** A given Postgres, or null for the embedded one. */
  databaseUrl: string | null;
  /** Given secrets key text (models/secrets.ts), or null for the file in the data directory. */
  secretsKey: string | null;
  /** Where other replicas of the app, over the same database, reach this one; null when it is alone. */
  replicaAddress: URL | null;
  /** Names that remote servers may sign people in at, though they are of a private network. */
  oauthPrivateHosts: string[];
  /** Hosts of a private network that workspaces' models may be at, with a port or for any. */
  modelPrivateHosts: string[];
  /** What goes out goes through a proxy, as `fetch` does with these variables. */
  isProxied: boolean;
  owner: { email: string; password: string } | null;
  /** Whether this machine's own toolbox runs beside the app: of several replicas one has it at most. */
  localToolbox: boolean;
  /** Where its enrolment token is left, where others start its DTMA; then the app does not. */
  localToolboxTokenFile: string | null;
  logFormat: "json" | "text";
  /** Through whom mail is sent, and from which address; null when none is. */
  mail: { smtpUrl: string; from: string } | null;
}

/** Blank is not set: of blanks alone a number is 0. */
const optional = <T extends z.ZodType>(schema: T) =>
  z.preprocess((value) => String(value ?? "").trim() === "" ? undefined : value, schema.optional());

const Environment = z.object({
  PORT: optional(z.coerce.number("must be a number").int().min(0).max(65535)),
  HOST: optional(z.string().regex(/^[A-Za-z0-9.:_-]+$/, "must be a host name or an address")),
  BASE_URL: optional(
    z.url({ protocol: /^https?$/, message: "must be an http or https URL" })
      .refine((url) => !url.includes("?") && !url.includes("#"), "must not have a query"),
  ),
  DATA_DIR: optional(z.string()),
  DATABASE_URL: optional(
    z.string().regex(/^postgres(ql)?:\/\//, "must start with postgres://"),
  ),
  SECRETS_KEY: optional(
    z.string().regex(
      /^[A-Za-z0-9_-]+:[A-Za-z0-9+/=_-]{43,44}(,[A-Za-z0-9_-]+:[A-Za-z0-9+/=_-]{43,44})*$/,
      "must be id:base64-of-32-bytes, older keys after commas",
    ),
  ),
  REPLICA_ADDRESS: optional(
    z.url({ protocol: /^https?$/, message: "must be an http or https URL" })
      .refine((url) => !url.includes("?") && !url.includes("#"), "must not have a query"),
  ),
  OAUTH_PRIVATE_HOSTS: optional(
    z.string().toLowerCase().regex(
      /^[a-z0-9.-]+( *, *[a-z0-9.-]+)*$/,
      "must be names of hosts, with commas between them",
    ),
  ),
  MODEL_PRIVATE_HOSTS: optional(
    z.string().toLowerCase().regex(
      /^[a-z0-9.:[\]-]+( *, *[a-z0-9.:[\]-]+)*$/,
      "must be names of hosts, such as localhost:11434, with commas between them",
    ),
  ),
  HTTPS_PROXY: optional(z.string()),
  https_proxy: optional(z.string()),
  OWNER_EMAIL: optional(z.email("must be an email address")),
  OWNER_PASSWORD: optional(z.string().min(10, "must have at least 10 characters").max(256)),
  LOCAL_TOOLBOX: optional(z.enum(["on", "off"], "must be on or off")),
  LOCAL_TOOLBOX_TOKEN_FILE: optional(z.string().startsWith("/", "must be an absolute path")),
  LOG_FORMAT: optional(z.enum(["json", "text"], "must be json or text")),
  SMTP_URL: optional(
    z.url({ protocol: /^smtps?$/, message: "must be smtp://name:password@host:587 or smtps://…" }),
  ),
  MAIL_FROM: optional(
    z.string().max(200).regex(
      /^([^<>\r\n]*<[^<>\s@]+@[^<>\s@]+>|[^<>\s@]+@[^<>\s@]+)$/,
      "must be an address, such as Mooring <mooring@example.com>",
    ),
  ),
}).refine((env) => (env.SMTP_URL === undefined) === (env.MAIL_FROM === undefined), {
  path: ["SMTP_URL"],
  message: "and MAIL_FROM go together: set both or neither",
}).refine((env) => (env.OWNER_EMAIL === undefined) === (env.OWNER_PASSWORD === undefined), {
  path: ["OWNER_EMAIL"],
  message: "and OWNER_PASSWORD go together: set both or neither",
});

/**
 * Reads the configuration.
 *
 * @param environment the variables, such as `Deno.env.toObject()`
 * @param home the directory under which the data directory is by default
 * @throws {TypeError} whose message lists every variable that is wrong, without its value
 */
export function readConfig(environment: Record<string, string>, home: string): Config {
  const parsed = Environment.safeParse(environment);
  if (!parsed.success) {
    const mistakes = parsed.error.issues.map((issue) =>
      `  ${String(issue.path[0])} ${issue.message}`
    );
    throw new TypeError(`The configuration is wrong:\n${[...new Set(mistakes)].join("\n")}`);
  }
  const env = parsed.data;
  const port = env.PORT ?? 4680;
  const host = env.HOST ?? "127.0.0.1";
  return {
    port,
    host,
    baseUrl: new URL(env.BASE_URL ?? `http://${reachable(host)}:${port}`),
    dataDirectory: env.DATA_DIR ?? `${home}/.local/share/mooring`,
    databaseUrl: env.DATABASE_URL ?? null,
    secretsKey: env.SECRETS_KEY ?? null,
    replicaAddress: env.REPLICA_ADDRESS ? new URL(env.REPLICA_ADDRESS) : null,
    oauthPrivateHosts: env.OAUTH_PRIVATE_HOSTS?.split(/ *, */) ?? [],
    modelPrivateHosts: env.MODEL_PRIVATE_HOSTS?.split(/ *, */) ?? [],
    isProxied: Boolean(env.HTTPS_PROXY ?? env.https_proxy),
    owner: env.OWNER_EMAIL ? { email: env.OWNER_EMAIL, password: env.OWNER_PASSWORD! } : null,
    localToolbox: env.LOCAL_TOOLBOX !== "off" && !env.LOCAL_TOOLBOX_TOKEN_FILE,
    localToolboxTokenFile: env.LOCAL_TOOLBOX_TOKEN_FILE ?? null,
    logFormat: env.LOG_FORMAT ?? "text",
    mail: env.SMTP_URL ? { smtpUrl: env.SMTP_URL, from: env.MAIL_FROM! } : null,
  };
}

/** The address to open in a browser on the same machine when the app listens on `host`. */
function reachable(host: string): string {
  if (host === "0.0.0.0" || host === "::") return "127.0.0.1";
  return host.includes(":") ? `[${host}]` : host;
}
