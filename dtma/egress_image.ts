/**
 * The egress proxy's image, built on the toolbox out of files that are part of DTMA's own module
 * graph: DTMA needs no permission to read them.
 */
import type { Docker } from "./docker.ts";
import dockerfile from "./egress_proxy/Dockerfile" with { type: "text" };
import clientHello from "./egress_proxy/client_hello.mts" with { type: "text" };
import denials from "./egress_proxy/denials.mts" with { type: "text" };
import dnsMessage from "./egress_proxy/dns_message.mts" with { type: "text" };
import hosts from "./egress_proxy/hosts.mts" with { type: "text" };
import httpSide from "./egress_proxy/http_side.mts" with { type: "text" };
import main from "./egress_proxy/main.mts" with { type: "text" };
import network from "./egress_proxy/network.mts" with { type: "text" };
import { writeTar } from "./tar.ts";

const FILES = {
  "Dockerfile": dockerfile,
  "client_hello.mts": clientHello,
  "denials.mts": denials,
  "dns_message.mts": dnsMessage,
  "hosts.mts": hosts,
  "http_side.mts": httpSide,
  "main.mts": main,
  "network.mts": network,
};

/** The hash of the image's files and of the base that it stands on. */
const RECIPE_LABEL = "dev.mooring.egress-image";

/** @returns the image's id (`sha256:...`), built if it is not there; null without the base image */
export async function ensureProxyImage(docker: Docker, base: string): Promise<string | null> {
  const standsOn = await docker.inspectImage(base);
  if (!standsOn) return null;
  const recipe = new TextEncoder().encode(JSON.stringify([FILES, standsOn.Id]));
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", recipe)).toHex().slice(0, 32);
  // Not one toolbox's: those of an engine share it.
  const tag = `mooring/egress:${hash}`;
  const present = await docker.inspectImage(tag);
  if (present) return present.Id;
  const built = await docker.buildImage(writeTar(FILES), {
    tag,
    buildArguments: { BASE: base },
    labels: { [RECIPE_LABEL]: hash },
    onLine: () => {},
  });
  // Those of before; one that a running proxy stands on is refused and goes another time.
  for (const image of await docker.listImages([RECIPE_LABEL])) {
    if (image.Labels?.[RECIPE_LABEL] !== hash) await docker.removeImage(image.Id);
  }
  return built;
}
