/**
 * A workspace as one file: its servers with their configuration, its agents with what they are connected
 * to, and what was approved. Secrets stay behind, or go along sealed with a passphrase. What servers keep
 * in volumes, tokens and toolboxes are not in it.
 */
import { Buffer } from "node:buffer";
import { createCipheriv, createDecipheriv, randomBytes, scrypt } from "node:crypto";
import canonicalize from "canonicalize";
import { z } from "zod";
import { listAgents } from "./agents.ts";
import { CatalogEntry } from "./catalog_entries.ts";
import { listConnectionOptions } from "./connections.ts";
import type { Database, User } from "./db.ts";
import { type Definition, KINDS, listDefinitions } from "./definitions.ts";
import { Forbidden, Invalid } from "./errors.ts";
import { recordEvent } from "./events.ts";
import { openSecret, type SecretsKey } from "./secrets.ts";
import { ServerOptions } from "./server_options.ts";
import { listServers } from "./servers.ts";
import { listTools } from "./tools.ts";
import type { Workspace } from "./workspaces.ts";

/** The equivalent of OWASP's first choice for scrypt, in half its memory: 64 MiB. */
const SCRYPT = { N: 2 ** 16, r: 8, p: 2 } as const;

/** More than a workspace has: what is exported has to be a file that holds. */
const THINGS_LIMIT = 10_000;

const Slug = z.string().regex(/^[a-z0-9][a-z0-9-]{0,40}$/);
const Base64 = z.string().regex(/^[A-Za-z0-9+/]*={0,2}$/);

const Sealed = z.strictObject({
  cipher: z.literal("aes-256-gcm"),
  kdf: z.literal("scrypt"),
  // No others: a file must not say how much work reading it is.
  N: z.literal(SCRYPT.N),
  r: z.literal(SCRYPT.r),
  p: z.literal(SCRYPT.p),
  salt: Base64.max(100),
  iv: Base64.max(100),
  ciphertext: Base64,
});
type Sealed = z.infer<typeof Sealed>;

export const ServerInFile = z.strictObject({
  slug: Slug,
  name: z.string().min(1).max(80),
  entry: CatalogEntry,
  values: z.record(z.string().max(200), z.string()),
  secrets: z.array(z.string().min(1).max(128)).max(100).describe("The names of those it has"),
  options: ServerOptions,
  running: z.boolean(),
  approved: z.array(z.strictObject({
    kind: z.enum(KINDS),
    name: z.string().min(1).max(1024),
    hash: z.string().min(1).max(100),
  })).max(5000),
});
export type ServerInFile = z.infer<typeof ServerInFile>;

export const AgentInFile = z.strictObject({
  name: z.string().min(1).max(80),
  deniesByDefault: z.boolean(),
  presents: z.enum(["tools", "search"]),
  instructions: z.string().max(20_000).default(""),
  asks: z.enum(["never", "writes", "always"]).default("writes"),
  connections: z.array(z.strictObject({
    server: Slug,
    /** ConnectionOptions of connection_options.ts, which reads them. */
    options: z.record(z.string(), z.unknown()),
  })).max(THINGS_LIMIT),
});
export type AgentInFile = z.infer<typeof AgentInFile>;

export const WorkspaceFile = z.strictObject({
  format: z.literal("mooring-workspace"),
  version: z.literal(1),
  exportedAt: z.iso.datetime(),
  workspace: z.string().max(80),
  servers: z.array(ServerInFile).max(THINGS_LIMIT),
  agents: z.array(AgentInFile).max(THINGS_LIMIT),
  sealedSecrets: Sealed.optional(),
});
export type WorkspaceFile = z.infer<typeof WorkspaceFile>;

/** Values by their names, by their server's slug. */
export type SecretsByServer = Record<string, Record<string, string>>;

/** Reads a file. @throws {Invalid} saying what of it does not hold */
export function readWorkspaceFile(given: unknown): WorkspaceFile {
  const version = (given as { version?: unknown } | null)?.version;
  if (typeof version === "number" && version > 1) {
    const message =
      `The file is of version ${version}, which a newer Mooring wrote: upgrade this one`;
    throw new Invalid(message, { file: message });
  }
  const parsed = WorkspaceFile.safeParse(given);
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0];
    const where = path.map(String).join(".").slice(0, 200) || "its top";
    const told = `This is no workspace that Mooring exported. At ${where}: ${message}`;
    throw new Invalid(told, { file: told });
  }
  const twice = twiceIn(parsed.data.servers.map(({ slug }) => slug)) ??
    twiceIn(parsed.data.agents.map(({ name }) => name));
  if (twice !== undefined) {
    const message = `${twice} is there twice: keep one`;
    throw new Invalid(message, { file: message });
  }
  return parsed.data;
}

function twiceIn(names: string[]): string | undefined {
  return names.find((name, index) => names.indexOf(name) !== index);
}

/** Shortest passphrase, in characters: it is guessed offline by whoever has the file. */
export const PASSPHRASE_MIN_LENGTH = 12;

/**
 * A workspace as it is now.
 *
 * @param seal takes the secrets along, sealed with a passphrase; the workspace's events say so
 * @throws {Invalid} a passphrase that is too short
 * @throws {Forbidden} secrets are for owners and admins
 */
export async function exportWorkspace(
  db: Database,
  user: User,
  workspace: Workspace,
  seal?: { passphrase: string; secretsKey: SecretsKey },
): Promise<WorkspaceFile> {
  if (seal && seal.passphrase.length < PASSPHRASE_MIN_LENGTH) {
    const message = `A passphrase has ${PASSPHRASE_MIN_LENGTH} characters at least`;
    throw new Invalid(message, { passphrase: message });
  }
  if (seal && workspace.role !== "owner" && workspace.role !== "admin") {
    throw new Forbidden("Only owners and admins of the workspace can export its secrets");
  }
  const servers = (await listServers(db, user, workspace.id)).filter(({ removedAt }) => !removedAt);
  const agents = await listAgents(db, user, workspace.id);
  const options = await listConnectionOptions(db, user, workspace.id);
  const slugs = new Map(servers.map(({ id, slug }) => [id, slug]));
  const file: WorkspaceFile = {
    format: "mooring-workspace",
    version: 1,
    exportedAt: new Date().toISOString(),
    workspace: workspace.name,
    servers: [],
    agents: agents.map(({ id, name, deniesByDefault, presents, instructions, asks }) => ({
      name,
      deniesByDefault,
      presents,
      instructions,
      asks,
      connections: options.filter(({ agentId, serverId }) => agentId === id && slugs.has(serverId))
        .map(({ serverId, options }) => ({ server: slugs.get(serverId)!, options: { ...options } }))
        .toSorted((a, b) => a.server < b.server ? -1 : 1),
    })),
  };
  for (const { id, slug, name, config, running } of servers) {
    const tools = (await listTools(db, user, id)).map((tool) => ({ ...tool, kind: "tool" }));
    const approved = ([...tools, ...await listDefinitions(db, user, id)] as Definition[])
      .flatMap(({ kind, name, approvedHash }) =>
        approvedHash ? [{ kind, name, hash: approvedHash }] : []
      );
    const { entry, values, secrets, options } = config;
    file.servers.push({
      slug,
      name,
      entry,
      values,
      secrets: Object.keys(secrets).toSorted(),
      // Of restarts that were asked for nothing is to be kept.
      options: { ...options, restart: 0 },
      running,
      approved: approved.toSorted((a, b) => `${a.kind} ${a.name}` < `${b.kind} ${b.name}` ? -1 : 1),
    });
  }
  if (!seal) return file;
  const secrets = await openSecrets(db, user, workspace.id, slugs, seal.secretsKey);
  await db.asUser(user, (sql) =>
    recordEvent(sql, user, {
      workspaceId: workspace.id,
      layer: "request",
      message: "Exported the workspace with its secrets, sealed with a passphrase",
    }));
  return { ...file, sealedSecrets: await sealSecrets(file, secrets, seal.passphrase) };
}

async function openSecrets(
  db: Database,
  { userId }: User,
  workspaceId: string,
  slugs: Map<string, string>,
  secretsKey: SecretsKey,
): Promise<SecretsByServer> {
  const rows = await db.asApp<
    {
      id: string;
      server_id: string;
      name: string;
      key_id: string;
      iv: Uint8Array;
      ciphertext: Uint8Array;
    }[]
  >`select * from mooring.secrets_for_export(${workspaceId}, ${userId})`;
  // Without a prototype: a server may be called "constructor", and a secret "__proto__".
  const secrets: SecretsByServer = Object.create(null);
  for (const { id, server_id, name, key_id: keyId, iv, ciphertext } of rows) {
    const slug = slugs.get(server_id);
    if (!slug) continue;
    (secrets[slug] ??= Object.create(null))[name] = await openSecret(secretsKey, id, {
      keyId,
      iv,
      ciphertext,
    });
  }
  return secrets;
}

/** Seals secrets to a file: in one whose servers were changed since they do not open. */
async function sealSecrets(
  file: WorkspaceFile,
  secrets: SecretsByServer,
  passphrase: string,
): Promise<Sealed> {
  const salt = randomBytes(16), iv = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", await keyOf(passphrase, salt), iv);
  cipher.setAAD(boundTo(file));
  const ciphertext = Buffer.concat([
    cipher.update(JSON.stringify(secrets), "utf8"),
    cipher.final(),
    cipher.getAuthTag(),
  ]);
  return {
    cipher: "aes-256-gcm",
    kdf: "scrypt",
    ...SCRYPT,
    salt: salt.toString("base64"),
    iv: iv.toString("base64"),
    ciphertext: ciphertext.toString("base64"),
  };
}

/**
 * Opens a file's sealed secrets.
 *
 * @param given the file as it is written: what a later version reads into it is not what was sealed
 * @throws {Invalid} another passphrase, or another file
 */
export async function openSealedSecrets(
  given: Record<string, unknown>,
  passphrase: string,
): Promise<SecretsByServer> {
  const { sealedSecrets: sealed } = readWorkspaceFile(given);
  if (!sealed) return {};
  const [salt, iv, bytes] = [sealed.salt, sealed.iv, sealed.ciphertext]
    .map((text) => Buffer.from(text, "base64"));
  try {
    const key = await keyOf(passphrase, salt);
    const decipher = createDecipheriv("aes-256-gcm", key, iv, { authTagLength: 16 });
    decipher.setAAD(boundTo(given));
    decipher.setAuthTag(bytes.subarray(-16));
    const text = Buffer.concat([decipher.update(bytes.subarray(0, -16)), decipher.final()]);
    const ByServer = z.record(z.string(), z.record(z.string(), z.string()));
    return ByServer.parse(JSON.parse(text.toString("utf8")));
  } catch {
    const message =
      "The secrets do not open: it is another passphrase, or the file was changed since it was exported";
    throw new Invalid(message, { passphrase: message });
  }
}

/** A file that was changed could send its secrets to another server. */
function boundTo({ sealedSecrets: _, ...file }: Record<string, unknown>): Buffer {
  return Buffer.from(canonicalize(file)!, "utf8");
}

/** One at a time: each takes 64 MiB for half a second. */
let deriving: Promise<unknown> = Promise.resolve();

function keyOf(passphrase: string, salt: Buffer): Promise<Buffer> {
  const key = deriving.then(() => derive(passphrase, salt));
  deriving = key.catch(() => {});
  return key;
}

function derive(passphrase: string, salt: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) =>
    scrypt(
      passphrase.normalize("NFKC"),
      salt,
      32,
      { ...SCRYPT, maxmem: 160 * SCRYPT.N * SCRYPT.r },
      (error, key) => error ? reject(error) : resolve(key),
    )
  );
}
