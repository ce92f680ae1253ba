/** REST APIs as what is deployed for them: an adapter with chosen operations, and its credentials. */
import { z } from "zod";
import type { ApiCredential, ApiPlan, ApiTool } from "../dtma/protocol.ts";
import { PLAN_LIMIT } from "../dtma/protocol.ts";
import { CatalogEntry } from "./catalog_entries.ts";
import { Invalid } from "./errors.ts";
import { type ApiScheme, type ApiServer, isHeaderName } from "./openapi_operations.ts";
import { headerMistake } from "./remote_servers.ts";
import { fillTemplate } from "./server_form.ts";

/** What the adapter may take: it holds an answer of 3 MiB a few times over. */
export const API_MEMORY_MIB = 192;

/** Most operations of one server: more would be the whole of a model's context. */
export const TOOLS_LIMIT = 200;

/** The field that agrees to credentials over http. */
export const PLAIN_HTTP_CONSENT = "consent.plainHttp";

/** In place of a number, in the field `server`: the address that `baseUrl` gives. */
export const OTHER_SERVER = "other";

/** How a person's own credential is sent, where no scheme of the document will do. */
export const OWN_KINDS = ["bearer", "basic", "header", "query"] as const;
export type OwnKind = typeof OWN_KINDS[number];

/** The variable of a person's own credential. */
const OWN = "AUTH_OWN";

/** One input of a credential: its variable, and what it is. */
export interface CredentialInput {
  variable: string;
  label: string;
  description: string;
}

/** A scheme with the inputs that a form asks for it. */
export interface CredentialFields {
  scheme: ApiScheme;
  inputs: CredentialInput[];
}

/** What is asked for each scheme, its variables named by it: they keep their values in a later document. */
export function credentialFields(schemes: ApiScheme[]): CredentialFields[] {
  // Those of a person's own way to send one.
  const taken = new Set([OWN, `${OWN}_USER`, `${OWN}_PASSWORD`]);
  return schemes.map((scheme) => {
    const plain = scheme.id.toUpperCase().replaceAll(/[^A-Z0-9]+/g, "_").replaceAll(/^_+|_+$/g, "")
      .slice(0, 60);
    const base = `AUTH_${plain || "KEY"}`;
    let inputs = inputsOf(base, scheme);
    for (let number = 2; inputs.some(({ variable }) => taken.has(variable)); number++) {
      inputs = inputsOf(`${base}_${number}`, scheme);
    }
    for (const { variable } of inputs) taken.add(variable);
    return { scheme, inputs };
  });
}

function inputsOf(base: string, scheme: Omit<ApiScheme, "id">): CredentialInput[] {
  const description = sentAs(scheme);
  if (scheme.scheme === "basic") {
    return [
      { variable: `${base}_USER`, label: "User", description: "" },
      { variable: `${base}_PASSWORD`, label: "Password", description },
    ];
  }
  return [{ variable: base, label: scheme.scheme === "bearer" ? "Token" : "Key", description }];
}

/** How a credential is sent, as a sentence. */
export function sentAs({ place, name, scheme }: Omit<ApiScheme, "id" | "description">): string {
  if (scheme === "bearer") return "Sent in the header Authorization, behind Bearer.";
  if (scheme === "basic") return "Sent in the header Authorization, as Basic.";
  return place === "header"
    ? `Sent in the header ${name}.`
    : place === "query"
    ? `Sent in the query, as ${name}.`
    : `Sent as the cookie ${name}.`;
}

/** Where a form's own credential is sent; none: it has none, or one that does not hold. */
export function ownCredential(form: Record<string, string>): Pick<ApiScheme, "place" | "name">[] {
  return [ownScheme(form, {}) ?? []].flat();
}

/** What `own.kind` and `own.name` say; null: nothing is sent in a way of its own. */
function ownScheme(
  form: Record<string, string>,
  mistakes: Record<string, string>,
): ApiScheme | null {
  const kind = form["own.kind"] as OwnKind | "" | undefined;
  const name = (form["own.name"] ?? "").trim();
  if (!kind) return null;
  const authorization = { place: "header", name: "Authorization" } as const;
  const about = { id: "own", description: "" };
  switch (kind) {
    case "bearer":
    case "basic":
      return { ...about, ...authorization, scheme: kind };
    case "header":
      if (!isHeaderName(name)) {
        mistakes["own.name"] =
          "A header's name has letters, digits and dashes, such as X-Api-Key, " +
          "and is none of the connection's own";
      }
      return { ...about, place: kind, name, scheme: "plain" };
    case "query":
      if (name === "" || name.length > 100) {
        mistakes["own.name"] = "A parameter of the query has a name, such as api_key";
      }
      return { ...about, place: kind, name, scheme: "plain" };
    default:
      mistakes["own.kind"] = "Choose how it is sent";
      return null;
  }
}

/**
 * What is deployed for a REST API.
 *
 * @param form `server`, an index or {@link OTHER_SERVER} with `baseUrl`; `variable.N.NAME` of server N;
 *   `own.kind` and `own.name`; the credentials' values are the entry's own secret inputs, `env.AUTH_…`
 * @throws {Invalid} with a sentence for each field that does not hold
 */
export function apiEntry(
  api: {
    title: string;
    version: string;
    description: string;
    servers: ApiServer[];
    schemes: ApiScheme[];
  },
  tools: ApiTool[],
  form: Record<string, string>,
): CatalogEntry {
  const mistakes: Record<string, string> = {};
  const url = baseUrlOf(api.servers, form, mistakes);
  const own = ownScheme(form, mistakes);
  const fields = credentialFields(api.schemes);
  if (own) fields.push({ scheme: own, inputs: inputsOf(OWN, own) });
  for (const { scheme, inputs } of fields) {
    for (const { variable } of inputs) {
      const value = (form[`env.${variable}`] ?? "").trim();
      if (value === "") continue;
      const mistake = headerMistake(value) ??
        (scheme.scheme === "basic" && variable.endsWith("_USER") && value.includes(":")
          ? "A user's name has no colon in it"
          : null);
      if (mistake) mistakes[`env.${variable}`] = mistake;
    }
  }
  const given = fields.some(({ inputs }) =>
    inputs.some(({ variable }) => (form[`env.${variable}`] ?? "").trim() !== "")
  );
  const isPlain = url?.protocol === "http:" && form[PLAIN_HTTP_CONSENT] !== "true";
  if (isPlain && given) {
    mistakes[PLAIN_HTTP_CONSENT] =
      "The URL is http, which shows a key to anybody on the way: agree to that, or take https";
  }
  if (tools.length === 0) mistakes.operation = "Choose one operation at least";
  if (tools.length > TOOLS_LIMIT) {
    mistakes.operation =
      `${tools.length} operations are chosen, and a server has at most ${TOOLS_LIMIT}`;
  }
  const sent = isPlain ? [] : fields;
  const plan = url ? planOf(api, url, sent, tools) : "{}";
  if (plan.length > PLAN_LIMIT) {
    mistakes.operation =
      `What is chosen takes ${Math.ceil(plan.length / 1024)} KiB to describe, and at ` +
      `most ${PLAN_LIMIT / 1024} fit: choose fewer, or leave the shape of results out`;
  }
  const count = Object.keys(mistakes).length;
  if (count > 0) {
    const [first] = Object.values(mistakes);
    throw new Invalid(count === 1 ? first : `${count} fields need attention`, mistakes);
  }
  const { hostname, port, protocol, origin } = url!;
  return CatalogEntry.parse({
    slug: "api",
    title: api.title,
    summary: `The REST API ${api.title} ${api.version}`.trim().slice(0, 200),
    description: api.description,
    category: "api",
    homepage: origin,
    license: "",
    package: { registry: "openapi", url: textOf(url!), plan },
    arguments: [],
    environment: sent.flatMap(({ scheme, inputs }) =>
      inputs.map(({ variable, label, description }) => ({
        name: variable,
        label: `${label}${scheme.id === "own" ? "" : ` (${scheme.id})`}`.slice(0, 120),
        description,
        isSecret: true,
      }))
    ),
    network: { hosts: [`${hostname}:${port || (protocol === "https:" ? "443" : "80")}`] },
    memoryMiB: API_MEMORY_MIB,
  });
}

/** An entry with other operations of a later document; where it is and what it sends stay. */
export function withTools(
  entry: CatalogEntry,
  api: { title: string; version: string },
  tools: ApiTool[],
): CatalogEntry {
  if (entry.package.registry !== "openapi") throw new TypeError("The entry is of no REST API");
  const before = readPlan(entry.package.plan);
  const plan = JSON.stringify({ ...before, apiVersion: api.version, tools });
  const mistake = tools.length === 0
    ? "Choose one operation at least"
    : tools.length > TOOLS_LIMIT
    ? `${tools.length} operations are chosen, and a server has at most ${TOOLS_LIMIT}`
    : plan.length > PLAN_LIMIT
    ? `What is chosen takes ${Math.ceil(plan.length / 1024)} KiB to describe, and at most ` +
      `${PLAN_LIMIT / 1024} fit: choose fewer, or leave the shape of results out`
    : null;
  if (mistake) throw new Invalid(mistake, { operation: mistake });
  return { ...entry, package: { ...entry.package, plan } };
}

const Plan = z.looseObject({
  version: z.literal(1),
  tools: z.array(z.looseObject({
    method: z.string(),
    path: z.string(),
    definition: z.looseObject({ name: z.string() }),
  })),
});

/** A plan that {@link apiEntry} made. One of a workspace's file may be anything: it is then of no tools. */
export function readPlan(plan: string): ApiPlan {
  try {
    return Plan.parse(JSON.parse(plan)) as unknown as ApiPlan;
  } catch {
    return { version: 1, title: "", apiVersion: "", url: "", credentials: [], tools: [] };
  }
}

function planOf(
  { title, version }: { title: string; version: string },
  url: URL,
  fields: CredentialFields[],
  tools: ApiTool[],
): string {
  const credentials = fields.map(({ scheme: { place, name, scheme }, inputs }): ApiCredential => ({
    place,
    name,
    scheme,
    variables: inputs.map(({ variable }) => variable),
  }));
  const plan: ApiPlan = {
    version: 1,
    title,
    apiVersion: version,
    url: textOf(url),
    credentials,
    tools,
  };
  return JSON.stringify(plan);
}

/** A URL without the slash at its end. */
function textOf({ href }: URL): string {
  return href.replace(/\/+$/, "");
}

function baseUrlOf(
  servers: ApiServer[],
  form: Record<string, string>,
  mistakes: Record<string, string>,
): URL | null {
  const chosen = form.server ?? (servers.length > 0 ? "0" : OTHER_SERVER);
  const server = /^\d{1,2}$/.test(chosen) ? servers[Number(chosen)] : undefined;
  const field = server ? "server" : "baseUrl";
  const refuse = (message: string) => {
    mistakes[field] = `The address ${message}`;
    return null;
  };
  let text = (form.baseUrl ?? "").trim();
  if (server) {
    text = fillTemplate(server.url, (name) => {
      const variable = server.variables.find((each) => each.name === name);
      return form[`variable.${chosen}.${name}`]?.trim() || variable?.default || undefined;
    });
  }
  if (text.length > 2000) return refuse("must be at most 2,000 characters long");
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    return refuse("must be a whole URL, such as https://api.example.com/v1");
  }
  if (/[{}]/.test(text)) return refuse("has a variable without a value");
  const url = new URL(text);
  if (url.username || url.password) {
    return refuse("must have no user or password in it: give a credential instead");
  }
  if (url.search || url.hash) return refuse("must end before its ? and #");
  if (!/^[a-z0-9.-]+$/.test(url.hostname) || /^[0-9.]+$/.test(url.hostname)) {
    return refuse("must name its host, not an address: TLS and the way out go by names");
  }
  return url;
}
