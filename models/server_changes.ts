/** What a new generation of a server changes, as a person would say it. */
import { packageTitle, type Transport } from "../dtma/protocol.ts";
import { readPlan } from "./api_entries.ts";
import { askedInputs } from "./catalog_entries.ts";
import type { ServerConfig } from "./servers.ts";

export interface Change {
  name: string;
  /** Null: it was not there. */
  before: string | null;
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

/** How a server speaks, in words. */
export function spokenOn(transport: Transport): string {
  if (transport.type === "stdio") return "standard input and output";
  const { type, port, path } = transport;
  return `${type === "sse" ? "HTTP+SSE" : "Streamable HTTP"} at port ${port}, path ${path}`;
}

/** The differences of two configurations, in the order of the form; secrets by name alone. */
export function changesBetween(before: ServerConfig, after: ServerConfig): Change[] {
  const changes: Change[] = [];
  const compare = (name: string, one: string | null, other: string | null) => {
    if (one !== other) changes.push({ name, before: one, after: other });
  };
  const packageOf = ({ entry }: ServerConfig) => packageTitle(entry.package);
  compare("Package", packageOf(before), packageOf(after));
  changes.push(...operationChanges(before, after));
  for (const { field, input } of askedInputs(after.entry)) {
    if (input.isSecret) continue;
    compare(
      input.label ?? input.name,
      before.values[field] ?? null,
      after.values[field] ?? null,
    );
  }
  for (const name of new Set([...Object.keys(before.secrets), ...Object.keys(after.secrets)])) {
    const [one, other] = [before.secrets[name], after.secrets[name]];
    if (one === other) continue;
    changes.push({
      name: `Secret ${name}`,
      before: one ? "the value before" : null,
      after: other ? "another value" : null,
    });
  }
  const options = (config: ServerConfig) => {
    const { hosts, memoryMiB, instances, idleStopS, tier, transport, restart } = config.options;
    const { network, volumes } = config.entry;
    return {
      "Hosts of its entry": network.hosts.join(", ") || null,
      "Volumes": volumes.map(({ path }) => path).join(", ") || null,
      "Hosts allowed beside its entry's": hosts.join(", ") || null,
      "Memory": `${memoryMiB ?? config.entry.memoryMiB} MiB`,
      "Instances": INSTANCES[instances ?? config.entry.instances],
      "Sleeps when idle": idleStopS === null ? "never" : `after ${idleStopS / 60} minutes`,
      "How far it is trusted": tier ?? config.entry.tier,
      "Speaks on": spokenOn(transport ?? config.entry.transport),
      "Restarts asked for": String(restart),
    };
  };
  const [one, other] = [options(before), options(after)];
  for (const name of Object.keys(other) as (keyof typeof other)[]) {
    compare(name, one[name], other[name]);
  }
  return changes;
}
