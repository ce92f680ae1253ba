/**
 * What is known of a server or an entry by which a person may trust it: facts alone, each with what it
 * means and where it is from. Where nothing is known, that is said.
 */
import { SEVERITIES } from "../dtma/protocol.ts";
import {
  askedInputs,
  buildCodeOf,
  type CatalogRow,
  type ListedEntry,
  runsElsewhere,
} from "./catalog_entries.ts";
import type { Database, User } from "./db.ts";
import { type Control, controlsOf } from "./hardening.ts";
import type { Scans } from "./scans.ts";
import { ServerOptions } from "./server_options.ts";
import type { Server } from "./servers.ts";

export interface Fact {
  name: string;
  /** In a few words. */
  value: string;
  /** What follows of it, and what does not. */
  means: string;
  /** `good`: it speaks for it. `caution`: a person should think. `unknown`: nobody here can tell. */
  bearing: "good" | "neutral" | "caution" | "unknown";
  /** What it was read from; null: nothing was asked. */
  source: string | null;
}

export interface Trust {
  facts: Fact[];
  controls: Control[];
  /** Where the entry is from; null: from no catalog, or it is there no more. */
  origin: Origin | null;
  isVerified: boolean;
  /** The definitions that its tools have, as far as it ran here; null: it did not. */
  tools: unknown[] | null;
}

interface Origin {
  slug: string;
  /** The source's slug, `builtin` of the built-in catalog. */
  source: string;
  sourceName: string;
  syncedAt: Date | null;
}

interface Known {
  origin: (Origin & { kind: string | null; isOfficial: boolean }) | null;
  /** The newest that got ready here. */
  proof: { readyAt: Date; imageDigest: string | null; isSame: boolean } | null;
  tools: unknown[] | null;
}

/** What is known of an entry, before and beside what was deployed of it. */
export async function readEntryTrust(
  db: Database,
  user: User,
  workspaceId: string,
  row: CatalogRow,
): Promise<Trust> {
  const known = await readKnown(db, user, workspaceId, row.id, row.entry);
  const { entry } = row;
  const openSecrets = askedInputs(entry)
    .filter(({ input }) => input.isSecret && !isFile(entry, input.name))
    .map(({ input }) => input.label ?? input.name);
  const options = ServerOptions.parse({});
  // What another version lists says nothing of this one.
  const tools = known.proof?.isSame ? known.tools : null;
  return {
    ...trustOf({ ...known, tools }, entry),
    facts: [
      ...commonFacts(entry, known),
      {
        name: "Bill of materials",
        value: known.proof?.isSame ? "Kept, on its server's page" : "Made with its image",
        means: "Every package in it, in CycloneDX, once it is built here.",
        bearing: "neutral",
        source: "the toolbox that builds it",
      },
      ...remoteFacts(entry, null),
    ],
    controls: controlsOf({ entry, options, openSecrets, sandbox: undefined }),
  };
}

/** What is known of a server. */
export async function readServerTrust(
  db: Database,
  user: User,
  server: Server,
  scans: Scans,
): Promise<Trust> {
  const { entry, options, secrets } = server.config;
  const [row] = await db.asUser(
    user,
    (sql) =>
      sql<{ entryId: string | null; readyAt: Date | null; tools: unknown[] }[]>`
      select s.catalog_entry_id as "entryId", g.ready_at as "readyAt",
        array(select x.definition from tools x where x.server_id = s.id and x.present) as tools
      from servers s join server_generations g on g.server_id = s.id and g.generation = s.generation
      where s.id = ${server.id}`,
  );
  const known = await readKnown(db, user, server.workspaceId, row?.entryId ?? null, entry);
  // What this server is seen to be says more than what was seen of any of its entry.
  const proof = row?.readyAt
    ? { readyAt: row.readyAt, imageDigest: server.imageDigest, isSame: true }
    : known.proof;
  const tools = row && row.tools.length > 0 ? row.tools : null;
  const openSecrets = askedInputs(entry)
    .filter(({ secret, input }) => secrets[secret] && !isFile(entry, input.name))
    .map(({ input }) => input.label ?? input.name);
  const sandbox = server.containerId === null ? undefined : server.sandbox;
  const facts = { ...known, proof };
  return {
    ...trustOf({ ...facts, tools }, entry),
    facts: [
      ...commonFacts(entry, facts),
      ...vulnerabilityFacts(entry, scans),
      ...remoteFacts(entry, server),
    ],
    controls: controlsOf({ entry, options, openSecrets, sandbox }),
  };
}

async function readKnown(
  db: Database,
  user: User,
  workspaceId: string,
  entryId: string | null,
  entry: ListedEntry,
): Promise<Known> {
  if (entryId === null) return { origin: null, proof: null, tools: null };
  const [row] = await db.asUser(user, (sql) =>
    sql<(Omit<Known, "tools"> & { tools: unknown[] })[]>`
      select case when e.id is not null then json_build_object('slug', e.slug, 'source', e.source,
          'sourceName', coalesce(c.name, 'Built in'), 'kind', c.kind, 'syncedAt', c.last_sync ->> 'at',
          'isOfficial', coalesce(mooring.is_official_registry(c.kind, c.url), false)) end as origin,
        case when p.entry_id is not null then json_build_object('readyAt', p.ready_at, 'imageDigest', p.image_digest,
          'isSame', p.package = ${JSON.stringify(entry.package)}::text::jsonb) end as proof,
        array(select x.definition from tools x where x.present and x.server_id = (
          select s.id from servers s where s.catalog_entry_id = e.id and s.workspace_id = ${workspaceId}
            and s.removed_at is null order by s.created_at desc limit 1)) as tools
      from catalog_entries e
      left join catalog_sources c on c.id = e.source_id
      left join catalog_proofs p on p.entry_id = e.id and p.workspace_id = ${workspaceId}
      where e.id = ${entryId}`);
  if (!row) return { origin: null, proof: null, tools: null };
  const { origin, proof, tools } = row;
  return {
    origin: origin && { ...origin, syncedAt: dateOf(origin.syncedAt) },
    proof: proof && { ...proof, readyAt: new Date(proof.readyAt) },
    tools: tools.length > 0 ? tools : null,
  };
}

/** As JSON carries it. */
function dateOf(at: Date | string | null): Date | null {
  return at === null ? null : new Date(at);
}

function trustOf({ origin, proof, tools }: Known, entry: ListedEntry) {
  return {
    origin,
    tools,
    isVerified: isPinned(entry) && isChecked(origin) || proof?.isSame === true,
  };
}

function isPinned({ package: { registry } }: ListedEntry): boolean {
  return ["npm", "pypi", "nuget", "oci", "source"].includes(registry);
}

function isChecked(origin: Known["origin"]): boolean {
  return origin !== null && (origin.source === "builtin" || origin.isOfficial);
}

function isFile({ environment }: ListedEntry, name: string): boolean {
  return environment.some((input) => input.name === name && input.isFile);
}

function commonFacts(entry: ListedEntry, known: Known): Fact[] {
  return [
    pinFact(entry),
    nameFact(known.origin),
    proofFact(entry, known.proof),
    ...provenanceFacts(entry),
    buildFact(entry),
  ];
}

function pinFact({ package: wanted }: ListedEntry): Fact {
  const fact = { name: "What runs", source: "its entry" };
  switch (wanted.registry) {
    case "npm":
    case "pypi":
    case "nuget":
      return {
        ...fact,
        value: `Exactly ${wanted.name} ${wanted.version}`,
        means:
          "No other version is installed, and of what it needs those that the lock file of the " +
          "first build names. The registry itself is trusted to give out what it was given.",
        bearing: "good",
      };
    case "oci":
      return {
        ...fact,
        value: `By digest, ${wanted.digest.slice(0, 19)}…`,
        means: "Whoever owns the image's name cannot put another one in its place.",
        bearing: "good",
      };
    case "source":
      return {
        ...fact,
        value: `By commit, ${wanted.revision.slice(0, 12)}…`,
        means: "The sources cannot change under it. What its Dockerfile fetches besides can.",
        bearing: "good",
      };
    case "image":
      return {
        ...fact,
        value: `By a tag, ${wanted.tag}`,
        means: "Its owner can move a tag. The digest is looked up when you deploy, and kept.",
        bearing: "caution",
      };
    case "remote":
    case "openapi":
    case "other":
      return {
        ...fact,
        value: "Not pinned: it runs elsewhere",
        means: "Whoever runs it may change it at any time. Agents get the definitions that you " +
          "approved, and no others.",
        bearing: "caution",
      };
  }
}

function nameFact(origin: Known["origin"]): Fact {
  const name = "Whose it is";
  if (origin === null) {
    return {
      name,
      value: "In no catalog",
      means:
        "Whoever deployed it gave the package or the URL by hand, or its catalog has dropped it.",
      bearing: "unknown",
      source: "this workspace",
    };
  }
  if (origin.source === "builtin") {
    return {
      name,
      value: "Its name was checked for the built-in catalog",
      means:
        "Whoever wrote that catalog looked the package or the address up, against misspelt twins. " +
        "Its code was not read.",
      bearing: "good",
      source: "the built-in catalog",
    };
  }
  if (origin.isOfficial) {
    return {
      name,
      value: "Its publisher proved the name to the official registry",
      means:
        "By an account or a domain; and the package names this entry back. It says who, not how good.",
      bearing: "good",
      source: origin.sourceName,
    };
  }
  return {
    name,
    value: origin.kind === "written" ? "As an admin wrote it here" : `As ${origin.sourceName} says`,
    means: origin.kind === "written"
      ? "Whoever wrote the entry by hand says whose package it is."
      : "Nobody here checked that the package is of whom it says it is of.",
    bearing: "unknown",
    source: origin.sourceName,
  };
}

function proofFact(entry: ListedEntry, proof: Known["proof"]): Fact {
  const isRemote = runsElsewhere(entry.package);
  const name = isRemote ? "Answered here" : "Built and started here";
  const source = "this workspace's toolboxes";
  if (proof === null || !proof.isSame) {
    return {
      name,
      value: proof === null ? "Not yet" : "Another version was, not this one",
      means: isRemote
        ? "No server of this workspace has shaken hands with it."
        : "No toolbox of this workspace has made its image and shaken hands with it.",
      bearing: "neutral",
      source,
    };
  }
  const day = proof.readyAt.toISOString().slice(0, 10);
  return {
    name,
    value: isRemote || !proof.imageDigest ? day : `${day}, ${proof.imageDigest.slice(0, 19)}…`,
    means:
      "It listed its tools over MCP under the policy below. It says that it works, not that it means well.",
    bearing: "good",
    source,
  };
}

function provenanceFacts({ package: { registry } }: ListedEntry): Fact[] {
  if (runsElsewhere({ registry }) || registry === "other" || registry === "source") return [];
  return [{
    name: "Signed provenance",
    value: "Not known",
    means: registry === "oci" || registry === "image"
      ? "Signatures and attestations of images are not looked at."
      : "Whether its registry has an attestation of where the package was built is not asked.",
    bearing: "unknown",
    source: null,
  }];
}

function buildFact(entry: ListedEntry): Fact {
  const fact = { name: "Code at its build", source: "its entry" };
  const code = buildCodeOf(entry);
  if (code !== null) {
    return {
      ...fact,
      value: code === "dockerfile" ? "Its Dockerfile" : "Install scripts, on",
      means:
        "It runs with access to the network, outside of the limits that the server is held to. " +
        "Who agreed to it stands in the server's events.",
      bearing: "caution",
    };
  }
  switch (entry.package.registry) {
    case "npm":
    case "pypi":
      return {
        ...fact,
        value: "Install scripts, off",
        means: "Nothing of the package runs before the server does, in its container.",
        bearing: "good",
      };
    case "remote":
      return {
        ...fact,
        value: "None",
        means: "Here runs an adapter of Mooring's own, which reaches the server and nothing else.",
        bearing: "neutral",
      };
    default:
      return {
        ...fact,
        value: "None",
        means: "It is unpacked or pulled as it is.",
        bearing: "good",
      };
  }
}

function vulnerabilityFacts(entry: ListedEntry, { scan, scanner }: Scans): Fact[] {
  if (runsElsewhere(entry.package)) return [];
  const fact = { name: "Known vulnerabilities", source: scan?.scanner?.name ?? "its toolbox" };
  if (scan?.outcome.state !== "scanned") {
    return [{
      ...fact,
      value: "Not scanned",
      means: scan?.outcome.state === "failed"
        ? scan.outcome.reason
        : scanner
        ? "Its toolbox scans it when its image is there."
        : "Its toolbox has no scanner (trivy or grype).",
      bearing: "unknown",
    }];
  }
  const { counts } = scan.outcome;
  const found = SEVERITIES.filter((severity) => counts[severity] > 0)
    .map((severity) => `${counts[severity]} ${severity}`);
  const isBad = (counts.critical ?? 0) + (counts.high ?? 0) > 0;
  return [{
    ...fact,
    value: found.length > 0 ? found.join(", ") : "None found",
    means: `In ${scan.components} packages, as of ${
      scan.at.slice(0, 10)
    }. What the base image's system brings was not looked at.`,
    bearing: isBad ? "caution" : found.length > 0 ? "neutral" : "good",
  }];
}

/** @param server null: of an entry, which is called in no way yet */
function remoteFacts({ package: wanted, environment }: ListedEntry, server: Server | null): Fact[] {
  if (wanted.registry !== "remote" && wanted.registry !== "openapi") return [];
  const isTls = wanted.url.startsWith("https:");
  const host = /^https?:\/\/([^/?#]+)/.exec(wanted.url)?.[1] ?? wanted.url;
  const hasSecret = environment.some(({ isSecret, variables }) =>
    isSecret || Object.values(variables ?? {}).some((variable) => variable.isSecret)
  );
  return [
    {
      name: "Called at",
      value: `${host}, ${isTls ? "TLS" : "without TLS"}`,
      means: isTls
        ? "Its certificate is checked by the name; what is said goes to whoever runs that host."
        : "Anybody on the way can read and change what is said.",
      bearing: isTls ? "neutral" : "caution",
      source: "its URL",
    },
    {
      name: "Called as",
      value: server?.authorization
        ? "An account that a person signed in with (OAuth)"
        : hasSecret
        ? "Whoever has the secret that you give"
        : "Nobody: without credentials",
      means: "What it may do there is what that account or secret may.",
      bearing: "neutral",
      source: server ? "this server" : "its entry",
    },
  ];
}
