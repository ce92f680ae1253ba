/** What a new generation of a server changes, as a person would say it. */
import { packageTitle, type Transport } from "../dtma/protocol.ts";
import { readPlan } from "./api_entries.ts";
import { askedInputs, type CatalogEntry } from "./catalog_entries.ts";
import type { ServerConfig } from "./servers.ts";

export interface Change {
  name: string;
  /** Null: it was not there. */
  before: string | null;
  /** Null: it is not there any more. */
  after: string | null;
}

/** Operations of a REST API that are there on one side alone, or are not the same on both. */
function operationChanges(before: ServerConfig, after: ServerConfig): Change[] {
  const plans = [before, after].map(({ entry: { package: from } }) =>
    from.registry === "openapi" ? from.plan : null
  );
  if (plans[0] === plans[1]) return [];
  const [one, other] = plans.map((plan) =>
    new Map((plan ? readPlan(plan).tools : []).map((tool) => [
      tool.definition.name,
      JSON.stringify(tool),
    ]))
  );
  return [...new Set([...one.keys(), ...other.keys()])]
    .filter((name) => one.get(name) !== other.get(name)).map((name) => ({
      name: `Operation ${name}`,
      before: one.has(name) ? "as it was" : null,
      after: other.has(name) ? (one.has(name) ? "as its document says now" : "added") : null,
    }));
}

/** Whose an instance is, in words. */
export const INSTANCES = {
  shared: "one for all",
  agent: "one for each agent",
  session: "one for each session",
};

/** The differences of two configurations, in the order of the form; of secrets only that they changed. */
export function changesBetween(before: ServerConfig, after: ServerConfig): Change[] {
  return [
    ...packageChanges(before.entry, after.entry),
    ...operationChanges(before, after),
    ...inputChanges(before, after),
    ...secretChanges(before.secrets, after.secrets),
    ...listChanges("May reach", hostsOf(before), hostsOf(after)),
    ...listChanges("Keeps data in", volumesOf(before), volumesOf(after)),
    ...named(runsAs(before), runsAs(after)),
  ];
}

function packageChanges(before: CatalogEntry, after: CatalogEntry): Change[] {
  const [one, other] = [before.package, after.package];
  const isSame = "version" in one && "version" in other && one.registry === other.registry &&
    one.name === other.name;
  if (isSame) return named({ Version: one.version }, { Version: other.version });
  const title = (of: typeof one) =>
    one.registry === other.registry ? packageTitle(of) : `${of.registry} ${packageTitle(of)}`;
  return named({ Package: title(one) }, { Package: title(other) });
}

/** By the form's fields of both: an entry's next version may ask for other things. */
function inputChanges(before: ServerConfig, after: ServerConfig): Change[] {
  const labels = new Map<string, string>();
  for (const { field, input } of [...askedInputs(before.entry), ...askedInputs(after.entry)]) {
    if (!input.isSecret) labels.set(field, input.label ?? input.name);
  }
  return [...labels].flatMap(([field, label]) =>
    named({ [label]: before.values[field] || null }, { [label]: after.values[field] || null })
  );
}

function secretChanges(
  before: ServerConfig["secrets"],
  after: ServerConfig["secrets"],
): Change[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .filter((name) => before[name] !== after[name])
    .map((name) => {
      const was = Object.hasOwn(before, name), is = Object.hasOwn(after, name);
      return {
        name: `Secret ${name}`,
        before: was && !is ? "given" : null,
        after: !is ? null : was ? "changed" : "given",
      };
    });
}

function hostsOf({ entry, options }: ServerConfig): string[] {
  return [...entry.network.hosts, ...options.hosts];
}

function volumesOf({ entry }: ServerConfig): string[] {
  return entry.volumes.map(({ name, path }) => `${path} (volume ${name})`);
}

/** Each that came or went, alone. */
function listChanges(name: string, before: string[], after: string[]): Change[] {
  const [was, is] = [new Set(before), new Set(after)];
  return [
    ...[...was].filter((each) => !is.has(each)).map((each) => ({
      name,
      before: each,
      after: null,
    })),
    ...[...is].filter((each) => !was.has(each)).map((each) => ({
      name,
      before: null,
      after: each,
    })),
  ];
}

function runsAs({ entry, options }: ServerConfig): Record<string, string> {
  const { memoryMiB, instances, idleStopS, tier, transport, restart } = options;
  return {
    "Memory": `${memoryMiB ?? entry.memoryMiB} MiB`,
    "Instances": INSTANCES[instances ?? entry.instances],
    "Sleeps when idle": idleStopS === null ? "never" : `after ${idleStopS / 60} minutes`,
    "How far it is trusted": tier ?? entry.tier,
    "Speaks on": spokenOn(transport ?? entry.transport),
    "Restarts asked for": String(restart),
  };
}

/** How a server speaks, in words. */
export function spokenOn(transport: Transport): string {
  if (transport.type === "stdio") return "standard input and output";
  const { type, port, path } = transport;
  return `${type === "sse" ? "HTTP+SSE" : "Streamable HTTP"} at port ${port}, path ${path}`;
}

function named(
  before: Record<string, string | null>,
  after: Record<string, string | null>,
): Change[] {
  return Object.keys(after).filter((name) => before[name] !== after[name])
    .map((name) => ({ name, before: before[name], after: after[name] }));
}
