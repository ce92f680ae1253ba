/**
 * The adapter beside a server that speaks HTTP: remote_adapter/ in a container that shares the
 * network of the server's, and whose stdio is MCP. To all above, the server is then one on stdio.
 *
 * It lives as long as the server's container: one that is gone is made again beside a server that
 * runs, and what happens to the server ends it.
 */
import type { Attachment, ContainerSummary, Docker } from "./docker.ts";
import { DockerError } from "./docker.ts";
import type { Images } from "./image.ts";
import { adapterConfig, adapterName, endpointOf, Label } from "./policy.ts";
import { type HttpTransport, type RemotePackage, STDIO, Transport } from "./protocol.ts";

/** What an adapter is made with. */
export interface AdapterHost {
  docker: Docker;
  toolboxId: string;
  images: Pick<Images, "ensure">;
}

/** The server's container. */
interface Beside {
  id: string;
  name: string;
  serverId: string;
}

export interface Adapter {
  attachment: Attachment;
  /** It ran already, and may have calls of a DTMA before under way. */
  isTakenOver: boolean;
}

/** What the adapter's image is made from. */
export function adapterPackage(transport: HttpTransport): RemotePackage {
  return { registry: "remote", url: endpointOf(transport) };
}

/** How the server in a container speaks, by the container's labels. */
export function transportOf({ Labels }: Pick<ContainerSummary, "Labels">): Transport {
  const label = Labels[Label.transport];
  return label === undefined ? STDIO : Transport.parse(JSON.parse(label));
}

/**
 * Takes over the adapter that runs beside a server, or starts one.
 * @throws DockerError also where the server's container does not run any more
 */
export async function openAdapter(
  host: AdapterHost,
  server: Beside,
  transport: HttpTransport,
  signal: AbortSignal,
): Promise<Adapter> {
  return await takeOver(host, server) ?? await start(host, server, transport, signal);
}

/** Gone is fine too. */
export async function removeAdapter({ docker }: Pick<AdapterHost, "docker">, server: string) {
  await docker.removeContainer(adapterName(server));
}

async function takeOver({ docker }: AdapterHost, server: Beside): Promise<Adapter | null> {
  const name = adapterName(server.name);
  const present = await docker.inspectContainer(name).catch(ignoreMissing);
  if (!present?.State.Running) return null;
  const { State } = await docker.inspectContainer(server.id);
  // A container that is started again has another network: who shared the one before is alone there.
  if (Date.parse(present.State.StartedAt) < Date.parse(State.StartedAt)) return null;
  const attachment = await docker.attachContainer(present.Id);
  // The DTMA before may have died in the middle of a line: end it, so that ours is whole.
  await send(attachment, "\n");
  if (!(await docker.inspectContainer(present.Id)).State.Running) {
    attachment.close();
    return null;
  }
  return { attachment, isTakenOver: true };
}

async function start(
  { docker, toolboxId, images }: AdapterHost,
  server: Beside,
  transport: HttpTransport,
  signal: AbortSignal,
): Promise<Adapter> {
  const image = await images.ensure(adapterPackage(transport), { signal });
  const name = adapterName(server.name);
  await docker.removeContainer(name);
  const config = adapterConfig(server, { toolboxId, image, transport });
  const id = await docker.createContainer(name, config);
  let attachment: Attachment | null = null;
  try {
    attachment = await docker.attachContainer(id);
    signal.throwIfAborted();
    await docker.startContainer(id);
    // Its launcher waits for secrets, of which it has none.
    await send(attachment, "run\n");
    return { attachment, isTakenOver: false };
  } catch (error) {
    attachment?.close();
    await docker.removeContainer(id).catch(() => {});
    throw error;
  }
}

/** Writes to a container's stdin, and leaves it open. */
export async function send(attachment: Attachment, text: string): Promise<void> {
  const writer = attachment.stdin.getWriter();
  await writer.write(new TextEncoder().encode(text)).finally(() => writer.releaseLock());
}

function ignoreMissing(error: unknown): null {
  if (error instanceof DockerError && error.status === 404) return null;
  throw error;
}
