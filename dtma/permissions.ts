/** With no more than these Deno permissions DTMA runs; main.ts says what each is for. */
import { ENVIRONMENT } from "./protocol.ts";

/**
 * @param environment DTMA's variables
 * @param options.anyApp where MOORING_URL is not known yet, any address may be reached
 */
export function dtmaPermissions(
  environment: Record<string, string | undefined>,
  { anyApp = false } = {},
): string[] {
  const { MOORING_URL, DTMA_LISTEN, DTMA_REACH } = environment;
  const data = environment.DTMA_DATA_DIR || "/var/lib/mooring-dtma";
  const socket = (environment.DOCKER_HOST || "unix:///var/run/docker.sock")
    .replace(/^unix:\/\//, "");
  const files = [
    environment.MOORING_ENROLMENT_TOKEN_FILE,
    environment.DTMA_CEILING,
    environment.NODE_EXTRA_CA_CERTS,
    environment.DTMA_SOURCE_DIRECTORIES?.replaceAll(/\s*,\s*/g, ",").replace(/,$/, ""),
  ].filter(Boolean);
  const net = [
    ...(MOORING_URL ? [hostAndPort(new URL(MOORING_URL))] : []),
    ...(DTMA_REACH === "tunnel" ? [] : [DTMA_LISTEN || "127.0.0.1:0"]),
    "localhost",
    `unix:${socket}`,
  ];
  return [
    "--no-prompt",
    MOORING_URL || !anyApp ? `--allow-net=${net.join(",")}` : "--allow-net",
    `--allow-read=${[data, socket, ...files].join(",")}`,
    `--allow-write=${[data, socket].join(",")}`,
    `--deny-write=${data}/programs`,
    `--allow-env=${ENVIRONMENT.join(",")}`,
    ...(environment.DTMA_SCANNER ? [`--allow-run=${environment.DTMA_SCANNER}`] : []),
  ];
}

function hostAndPort({ hostname, port, protocol }: URL): string {
  return `${hostname}:${port || (protocol === "https:" ? 443 : 80)}`;
}
