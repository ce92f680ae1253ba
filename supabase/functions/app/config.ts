/** The function's configuration: its secrets, checked as it starts, all mistakes told at once. */
import { z } from "zod";
import { SECRETS_KEY } from "./secrets_key.ts";

export interface EdgeConfig {
  /** Through the transaction pooler, as `mooring_app`. */
  databaseUrl: string;
  /** Null: Supabase Vault has it. */
  secretsKey: string | null;
  /** Where the app is reached; its path is the prefix of all links. */
  baseUrl: URL;
  supabaseUrl: URL;
  publishableKey: string;
  ownerEmail: string | null;
  oauthPrivateHosts: string[];
  modelPrivateHosts: string[];
}

const optional = <T extends z.ZodType>(schema: T) =>
  z.preprocess((value) => String(value ?? "").trim() === "" ? undefined : value, schema.optional());

/** Hosts with commas between them, as a URL has their names. */
export function hostsIn(text: string | undefined): string[] {
  return (text ?? "").toLowerCase().split(",").map((name) => name.trim()).filter(Boolean);
}

const Environment = z.object({
  // Supabase keeps names that begin with SUPABASE_ to itself, and sets SUPABASE_DB_URL to one that is too strong.
  DATABASE_URL: z.string("is needed").regex(
    /^postgres(ql)?:\/\/mooring_app[.:@]/,
    "must start with postgres://mooring_app, the role that sees no row by itself",
  ),
  SECRETS_KEY: optional(
    z.string().regex(SECRETS_KEY, "must be id:base64-of-32-bytes, older keys after commas"),
  ),
  BASE_URL: z.url({ protocol: /^https?$/, error: "must be an http or https URL" })
    .refine((url) => !/[?#]/.test(url), "must not have a query"),
  SUPABASE_URL: z.url({ protocol: /^https?$/, error: "must be an http or https URL" }),
  OWNER_EMAIL: optional(z.email("must be an email address")),
  OAUTH_PRIVATE_HOSTS: optional(z.string()),
  MODEL_PRIVATE_HOSTS: optional(z.string()),
});

/**
 * Reads the configuration.
 *
 * @throws {TypeError} whose message lists every secret that is wrong, without its value
 */
export function readEdgeConfig(environment: Record<string, string>): EdgeConfig {
  const parsed = Environment.safeParse(environment);
  const mistakes = parsed.error?.issues.map(({ path, message }) => `${String(path[0])} ${message}`);
  const env = parsed.data;
  const publishableKey = publishableKeyOf(environment);
  if (!env || !publishableKey) {
    const all = mistakes ?? ["SUPABASE_PUBLISHABLE_KEY is needed, or SUPABASE_ANON_KEY"];
    throw new TypeError(
      `The function's secrets are wrong:\n${all.map((line) => `  ${line}`).join("\n")}`,
    );
  }
  return {
    databaseUrl: env.DATABASE_URL,
    secretsKey: env.SECRETS_KEY ?? null,
    baseUrl: new URL(env.BASE_URL),
    supabaseUrl: new URL(env.SUPABASE_URL),
    publishableKey,
    ownerEmail: env.OWNER_EMAIL ?? null,
    oauthPrivateHosts: hostsIn(env.OAUTH_PRIVATE_HOSTS),
    modelPrivateHosts: hostsIn(env.MODEL_PRIVATE_HOSTS),
  };
}

/** The key that opens nothing by itself: given, or as a project's functions have it, new or legacy. */
export function publishableKeyOf(environment: Record<string, string>): string | null {
  const { SUPABASE_PUBLISHABLE_KEY, SUPABASE_PUBLISHABLE_KEYS, SUPABASE_ANON_KEY } = environment;
  const byName = z.record(z.string(), z.string())
    .safeParse(jsonIn(SUPABASE_PUBLISHABLE_KEYS ?? "")).data;
  return SUPABASE_PUBLISHABLE_KEY || byName?.default || SUPABASE_ANON_KEY || null;
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
