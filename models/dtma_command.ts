/** What a person runs on a Docker host so that it becomes a toolbox. */
import { ENVIRONMENT } from "../dtma/protocol.ts";

const DATA = "/var/lib/mooring-dtma";
const SOCKET = "/var/run/docker.sock";

export interface DtmaCommands {
  /** In a checkout, with Deno and the permissions that dtma/main.ts names. */
  source: string;
  /** With the compiled program. */
  binary: string;
  /** Why it serves on the app's own machine alone, and what to do; null elsewhere. */
  warning: string | null;
}

/**
 * The commands that enrol a toolbox: its DTMA keeps a link to the app, so that nothing has to reach
 * the host.
 *
 * @param appUrl the app's base URL, as other machines reach it
 */
export function dtmaCommands(appUrl: URL, enrolmentToken: string): DtmaCommands {
  const base = appUrl.href.replace(/\/+$/, "");
  const port = appUrl.port || (appUrl.protocol === "https:" ? "443" : "80");
  const variables = [
    `MOORING_URL=${word(base)}`,
    `MOORING_ENROLMENT_TOKEN=${word(enrolmentToken)}`,
    `DTMA_DATA_DIR=${DATA}`,
    "DTMA_REACH=tunnel",
  ].join(" ");
  const permissions = [
    "--no-prompt",
    `--allow-net=${word(`${appUrl.hostname}:${port}`)},localhost,unix:${SOCKET}`,
    `--allow-read=${DATA},${SOCKET}`,
    `--allow-write=${DATA},${SOCKET}`,
    `--allow-env=${ENVIRONMENT.join(",")}`,
  ].join(" ");
  const isHere = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(appUrl.hostname);
  return {
    source: `${variables} deno run ${permissions} dtma/main.ts`,
    binary: `${variables} mooring-dtma`,
    warning: isHere
      ? `${base} is an address of Mooring's own machine. For a toolbox on another one start Mooring ` +
        "with BASE_URL set to an https address that the other machine reaches"
      : appUrl.protocol === "https:"
      ? null
      : `${base} is not https, and a DTMA speaks plain http to its own machine alone: start Mooring ` +
        "with BASE_URL set to its https address",
  };
}

/** Text as one word of a shell. */
function word(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./[\]-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
