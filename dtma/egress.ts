/**
 * The only way out for a server: a network of its container's own, on which nothing is but the
 * container and the toolbox's egress proxy, which lets through what the server declared.
 */
import type { Denial } from "./protocol.ts";

/** What a container's create body needs to be on its network. */
export interface EgressRoute {
  /** The network's name. */
  network: string;
  /** The proxy's address on it: the container's one name server. */
  proxyAddress: string;
}

export interface Egress {
  /**
   * Makes the network of a container with the proxy on it, or changes what may be reached over the
   * one that is there: idempotent, and without a restart of anything.
   *
   * @param container the container's name, which is its network's too
   * @param labels of the network, by which it is known as the server's
   */
  open(
    container: string,
    server: { serverId: string; hosts: string[]; labels: Record<string, string> },
  ): Promise<EgressRoute>;
  /** Removes the network; nothing when there is none. */
  close(container: string): Promise<void>;
}

export type OnDenied = (denial: Denial) => void;
