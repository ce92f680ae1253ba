/**
 * The desired set as this DTMA takes it. The app is not trusted with the host: a server that asks for
 * more than any may have, or whose spec does not hold, is refused by itself and by name; the others
 * go on. It stays a server of this toolbox: it must not be taken for one that was removed.
 */
import { z } from "zod";
import { DesiredResponse, ServerSpec } from "./protocol.ts";

/** A server as it is wanted; with a refusal it is not run, and the refusal says why. */
export type WantedServer = ServerSpec & { refusal?: string };

export type Desired = Omit<DesiredResponse, "servers"> & { servers: WantedServer[] };

/**
 * What would give a container the host, by the names of Docker's and Compose's APIs. No version of
 * this protocol has them: they come from an app that was taken over, or from a person's mistake, and
 * dropping them in silence would run something else than was asked for.
 */
const HOST_DEMANDS = new Set([
  "privileged",
  "hostconfig",
  "binds",
  "bind",
  "mounts",
  "mount",
  "hostpath",
  "source",
  "volumesfrom",
  "devices",
  "devicerequests",
  "devicecgrouprules",
  "capadd",
  "capabilities",
  "securityopt",
  "networkmode",
  "hostnetwork",
  "extrahosts",
  "portbindings",
  "publishallports",
  "ports",
  "pidmode",
  "ipcmode",
  "utsmode",
  "usernsmode",
  "cgroupnsmode",
  "cgroupparent",
  "sysctls",
  "user",
  "groupadd",
  "readonlyrootfs",
]);

/** Where such a name would be one of the protocol's; elsewhere (an environment) it is anybody's. */
const LOOKED_AT = ["network", "volumes", "package", "hostConfig", "HostConfig"];

/**
 * Reads the app's answer.
 * @throws {z.ZodError} when it is no answer: of what is not understood nothing is followed in part,
 *   for what an answer leaves out is removed
 */
export function readDesired(answer: unknown): Desired {
  const { servers } = z.looseObject({ servers: z.array(z.unknown()) }).parse(answer);
  const rest = DesiredResponse.parse({ ...(answer as object), servers: [] });
  return { ...rest, servers: servers.map(readServer) };
}

/** What is needed of a spec to refuse it. */
const Named = ServerSpec.pick({ serverId: true, generation: true, running: true });

function readServer(given: unknown): WantedServer {
  const parsed = ServerSpec.safeParse(given);
  const demands = [...new Set(hostDemands(given))];
  if (parsed.success && demands.length === 0) return parsed.data;
  const refusal = demands.length > 0
    ? `it asks for ${demands.join(", ").slice(0, 300)}, which no server may have`
    : `its spec does not hold: ${mistakesOf(parsed.error!)}`;
  return { ...(parsed.success ? parsed.data : emptySpec(given)), refusal };
}

/** Names in a spec that ask for the host. */
function hostDemands(given: unknown): string[] {
  if (Array.isArray(given)) return given.flatMap(hostDemands);
  if (typeof given !== "object" || given === null) return [];
  return Object.entries(given).flatMap(([name, value]) => [
    ...(HOST_DEMANDS.has(name.toLowerCase().replaceAll(/[_-]/g, "")) ? [name] : []),
    ...(LOOKED_AT.includes(name) ? hostDemands(value) : []),
  ]);
}

function mistakesOf({ issues }: z.ZodError): string {
  return issues.slice(0, 3).map(({ path, message }) => `${path.map(String).join(".")}: ${message}`)
    .join("; ").slice(0, 500);
}

/** A spec of which nothing is run, in place of one that cannot be read. */
function emptySpec(given: unknown): ServerSpec {
  return ServerSpec.parse({
    ...Named.parse(given),
    name: "refused",
    package: { registry: "npm", name: "refused", version: "0.0.0", installScripts: false },
    arguments: [],
    environment: {},
    secrets: {},
    network: { hosts: [] },
  });
}
