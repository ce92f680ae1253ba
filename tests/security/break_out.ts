/** Runs the break-out probes (probes.c) in a container, under the policy or as plain Docker has it. */
import { createSocket } from "node:dgram";
import type { Docker } from "../../dtma/docker.ts";
import { openEgress } from "../../dtma/egress.ts";
import { containerConfig, containerName, Label, ownLabels } from "../../dtma/policy.ts";
import { writeTar } from "../../dtma/tar.ts";
import { BASE, fixtureSpec, type Toolbox } from "../dtma/engine.ts";

export interface Outcome {
  name: string;
  permitted: boolean;
  /** The error, or how the probe ended. */
  detail: string;
}

/** The address of the host that plain containers see. */
const HOST = "172.17.0.1";

/** The name that the probes ask for. */
const LEAKED = "stolen.leak.invalid";

export const WAYS = [
  "docker run",
  "cap-drop ALL, internal",
  "policy, no network",
  "policy, allow list",
  "policy, in gVisor",
] as const;
export type Way = typeof WAYS[number];

/** Every probe's outcome in each way of running a container but gVisor's (gvisor.ts). */
export async function breakOut(toolbox: Toolbox): Promise<Map<Way, Outcome[]>> {
  const { docker, id: toolboxId } = toolbox;
  const labels = { [Label.toolbox]: toolboxId };
  const image = await probesImage(toolbox);
  await using host = await listen();
  const sibling = await docker.createContainer(`mooring-sibling-${toolboxId}`, {
    Image: image,
    Labels: labels,
    Entrypoint: ["node", "-e", "require('net').createServer().listen(7)"],
  });
  await docker.startContainer(sibling);
  const address =
    (await docker.inspectContainer(sibling)).NetworkSettings.Networks.bridge.IPAddress;
  const command = (of: string) => ["/probes", HOST, String(host.port), of];
  const refused = new Set<string>();
  const egress = openEgress({
    docker,
    toolboxId,
    onDenied: ({ host }) => refused.add(host),
    log: () => {},
  });
  const run = (name: string, config: Record<string, unknown>) =>
    runProbes(docker, name, { ...config, Image: image });
  const underPolicy = async (hosts: string[], of: string) => {
    const spec = fixtureSpec("probes", { network: { hosts } });
    const name = containerName(spec);
    const route = hosts.length > 0
      ? await egress.open(name, {
        serverId: spec.serverId,
        hosts,
        labels: ownLabels(toolboxId, spec.serverId),
      })
      : null;
    const { Cmd: _, ...config } = containerConfig(spec, {
      toolboxId,
      image: { id: image, command: command(of), hasLauncher: false, workingDirectory: null },
      specHash: "probes",
      instance: null,
      route,
      sandbox: null,
    });
    const outcomes = await run(name, { ...config, OpenStdin: false });
    if (!route) return outcomes;
    await egress.close(name);
    return outcomes.map((each) => {
      // Docker's resolver claims for itself that it asks others. It asked the proxy, which asks nobody
      // and has told us of it.
      const isOurs = each.name === "DNS by Docker's resolver" && refused.has(LEAKED);
      return isOurs ? { ...each, permitted: false, detail: "refused by the proxy" } : each;
    });
  };
  try {
    // An init as elsewhere: the probes trace process 1, which must not be themselves.
    const plain = {
      Labels: labels,
      Entrypoint: command(address),
      AttachStdout: true,
      HostConfig: { Init: true },
    };
    const internal = `mooring-internal-${toolboxId}`;
    await docker.createNetwork({ Name: internal, Internal: true, Labels: labels });
    const gateway = (await docker.inspectNetwork(internal))!.IPAM.Config![0].Gateway!;
    // A sibling server with a network of its own, as any other server has it.
    const other = fixtureSpec("sibling", { network: { hosts: ["other.example:443"] } });
    const otherName = containerName(other);
    const { network } = await egress.open(otherName, {
      serverId: other.serverId,
      hosts: other.network.hosts,
      labels: ownLabels(toolboxId, other.serverId),
    });
    const otherId = await docker.createContainer(otherName, {
      Image: image,
      Labels: ownLabels(toolboxId, other.serverId),
      Entrypoint: ["node", "-e", "require('net').createServer().listen(7)"],
      HostConfig: { NetworkMode: network },
    });
    await docker.startContainer(otherId);
    const otherAddress =
      (await docker.inspectContainer(otherId)).NetworkSettings.Networks[network].IPAddress;
    const outcomes = new Map<Way, Outcome[]>([
      ["docker run", await run(`mooring-plain-${toolboxId}`, plain)],
      [
        "cap-drop ALL, internal",
        await run(`mooring-dropped-${toolboxId}`, {
          ...plain,
          User: "65532:65532",
          Entrypoint: ["/probes", gateway, String(host.port), address],
          HostConfig: { Init: true, CapDrop: ["ALL"], NetworkMode: internal },
        }),
      ],
      ["policy, no network", await underPolicy([], address)],
      ["policy, allow list", await underPolicy(["allowed.example:443"], otherAddress)],
    ]);
    await docker.removeContainer(otherId);
    await egress.close(otherName);
    return outcomes;
  } finally {
    await docker.removeContainer(sibling);
    await egress.detach();
  }
}

/** The names of what went through. */
export function permitted(outcomes: Map<Way, Outcome[]>, way: Way): string[] {
  return outcomes.get(way)!.filter((each) => each.permitted).map(({ name }) => name);
}

/** A table in Markdown: a probe a row, a way a column. */
export function tableOf(outcomes: Map<Way, Outcome[]>): string {
  const ways = [...outcomes.keys()];
  const rows = outcomes.get(ways[0])!.map(({ name }, index) => [
    name,
    ...ways.map((way) => {
      const { permitted, detail } = outcomes.get(way)![index];
      return permitted ? "**permitted**" : detail;
    }),
  ]);
  const sums = ways.map((way) => {
    return `**${permitted(outcomes, way).length} of ${rows.length}**`;
  });
  return [["probe", ...ways], ["---", ...ways.map(() => "---")], ...rows, [
    "**permitted**",
    ...sums,
  ]].map((cells) => `| ${cells.join(" | ")} |`).join("\n") + "\n";
}

/** An image with the probes in it. */
export async function probesImage({ docker, id: toolboxId }: Toolbox): Promise<string> {
  const probes = await build();
  return await docker.buildImage(
    writeTar({
      Dockerfile:
        `FROM ${BASE}\nUSER 0\nLABEL ${Label.toolbox}=${toolboxId}\nCOPY probes /probes\n`,
      probes,
    }, ["probes"]),
    { tag: `mooring-test/probes:${toolboxId}`, buildArguments: {}, labels: {}, onLine: () => {} },
  );
}

/** Runs probes in a container, which is removed. @returns the outcomes up to the last that it told */
export async function runProbes(
  docker: Docker,
  name: string,
  config: Record<string, unknown>,
): Promise<Outcome[]> {
  const id = await docker.createContainer(name, config);
  const attachment = await docker.attachContainer(id);
  await docker.startContainer(id);
  const [stdout, stderr] = await Promise.all([
    new Response(attachment.stdout).text(),
    new Response(attachment.stderr).text(),
  ]);
  await docker.removeContainer(id);
  if (!stdout.endsWith("}\n")) throw new Error(`The probes broke off: ${stdout} ${stderr}`);
  return stdout.trim().split("\n").map((line): Outcome => JSON.parse(line));
}

/** The probes as a static program. */
async function build(): Promise<Uint8Array> {
  const path = await Deno.makeTempFile({ prefix: "mooring-probes-" });
  try {
    const source = new URL("probes.c", import.meta.url).pathname;
    const { success, stderr } = await new Deno.Command("gcc", {
      args: ["-O1", "-static", "-w", "-o", path, source],
    }).output();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
    return await Deno.readFile(path);
  } finally {
    await Deno.remove(path);
  }
}

/** Listens on every address of the host, on TCP and UDP at one port, and answers. */
async function listen() {
  const tcp = Deno.listen({ hostname: "0.0.0.0", port: 0 });
  const { port } = tcp.addr as Deno.NetAddr;
  const accepting = (async () => {
    for await (const connection of tcp) connection.close();
  })();
  const udp = createSocket("udp4", (message, from) => udp.send(message, from.port, from.address));
  await new Promise<void>((bound) => udp.bind(port, "0.0.0.0", bound));
  return {
    port,
    async [Symbol.asyncDispose]() {
      tcp.close();
      await accepting;
      await new Promise<void>((closed) => udp.close(() => closed()));
    },
  };
}
