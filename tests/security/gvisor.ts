/** Runs the break-out probes (probes.c) in gVisor, under the policy on the network of an allow list. */
import { openEgress } from "../../dtma/egress.ts";
import { containerConfig, containerName, Label, ownLabels } from "../../dtma/policy.ts";
import { fixtureSpec } from "../dtma/engine.ts";
import type { GvisorToolbox } from "../dtma/gvisor.ts";
import { type Outcome, probesImage, runProbes } from "./break_out.ts";

/**
 * What gVisor's kernel gives a program within the sandbox: priorities, mappings and files in memory of
 * its own, which are not the host's.
 */
export const WITHIN_GVISOR = [
  "map a file in /tmp as code",
  "run a file in a memfd",
  "higher priority",
];

/** And without --oci-seccomp, by which it applies the policy's profile: namespaces, rings, a log. */
export const WITHOUT_SECCOMP = [
  ...WITHIN_GVISOR,
  "new user namespace",
  "new mount namespace",
  "be traced",
  "io_uring",
  "syslog",
];

const PORT = 4444;
const LISTENER = `require("net").createServer((socket) => socket.destroy()).listen(${PORT});
const udp = require("dgram").createSocket("udp4");
udp.on("message", (message, { port, address }) => udp.send(message, port, address));
udp.bind(${PORT});`;

/** The probes' names, in their order. */
export async function probeNames(): Promise<string[]> {
  const source = await Deno.readTextFile(new URL("probes.c", import.meta.url));
  return [...source.matchAll(/\{"([^"]+)", \w+\}/g)].map(([, name]) => name);
}

/** Every probe's outcome. One that uses up what the sandbox has ends it: the rest is run in another. */
export async function breakOutOfGvisor(
  toolbox: GvisorToolbox,
  runtime: string,
): Promise<Outcome[]> {
  const names = await probeNames();
  const { docker, id: toolboxId } = toolbox;
  const image = await probesImage(toolbox);
  const egress = openEgress({ docker, toolboxId, onDenied: () => {}, log: () => {} });
  const created: string[] = [];
  const open = async (name: string) => {
    const spec = fixtureSpec(name, { network: { hosts: ["allowed.example:443"] } });
    const labels = ownLabels(toolboxId, spec.serverId);
    const { hosts } = spec.network;
    const container = containerName(spec);
    const route = await egress.open(container, { serverId: spec.serverId, hosts, labels });
    return { spec, labels, container, route };
  };
  try {
    const sibling = await open("sibling");
    const siblingId = await docker.createContainer(sibling.container, {
      Image: image,
      Labels: sibling.labels,
      Entrypoint: ["node", "-e", "require('net').createServer().listen(7)"],
      HostConfig: { NetworkMode: sibling.route.network },
    });
    // The host, as far as this engine's containers go: its network namespace.
    const listener = await docker.createContainer(`mooring-listener-${toolboxId}`, {
      Image: image,
      Labels: { [Label.toolbox]: toolboxId },
      Entrypoint: ["node", "-e", LISTENER],
      HostConfig: { NetworkMode: "host" },
    });
    created.push(siblingId, listener);
    for (const id of created) await docker.startContainer(id);
    const addresses = (await docker.inspectContainer(siblingId)).NetworkSettings.Networks;
    const outward = await docker.inspectNetwork(`mooring-egress-${toolboxId}`);
    const host = outward!.IPAM.Config![0].Gateway!;
    const outcomes: Outcome[] = [];
    while (outcomes.length < names.length) {
      const { spec, container, route } = await open("probes");
      const siblingAddress = addresses[sibling.route.network].IPAddress;
      const command = ["/probes", host, String(PORT), siblingAddress, String(outcomes.length)];
      const { Cmd: _, ...config } = containerConfig(spec, {
        toolboxId,
        image: { id: image, command, hasLauncher: false, workingDirectory: null },
        specHash: "probes",
        instance: null,
        route,
        sandbox: { runtime, kind: "gvisor" },
      });
      outcomes.push(...await runProbes(docker, container, { ...config, OpenStdin: false }));
      await egress.close(container);
      if (outcomes.length === names.length) break;
      const name = names[outcomes.length];
      outcomes.push({ name, permitted: false, detail: "ended the sandbox" });
    }
    return outcomes;
  } finally {
    for (const id of created) await docker.removeContainer(id);
    await egress.detach();
  }
}
