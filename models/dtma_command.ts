/** What a person runs on a Docker host so that it becomes a toolbox. */
import { ENVIRONMENT } from "../dtma/protocol.ts";

const DATA = "/var/lib/mooring-dtma";
const SOCKET = "/var/run/docker.sock";

export interface DtmaCommands {
  /** In a checkout, with Deno and the permissions that dtma/main.ts names. */
  source: string;
  /** With the bundle and its launcher, which gives it its permissions, or a compiled binary. */
  program: string;
  /** As a container, of the image that images/dtma makes. */
  container: string;
  /** The bundle as a systemd service. */
  service: string;
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
  const settings = [`MOORING_URL=${word(base)}`, "DTMA_REACH=tunnel"];
  const token = `MOORING_ENROLMENT_TOKEN=${word(enrolmentToken)}`;
  const variables = [...settings, token, `DTMA_DATA_DIR=${DATA}`].join(" ");
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
    program: `${variables} ./mooring-dtma run ./mooring-dtma.js`,
    container: [
      "docker run --detach --name mooring-dtma --restart unless-stopped --init --read-only",
      // Longer than the 20 s in which the launcher ends DTMA. Docker's own are 10.
      "--stop-timeout 30",
      "--tmpfs /tmp:size=64m --cap-drop ALL --security-opt no-new-privileges",
      `--group-add "$(stat -c %g ${SOCKET})" --volume ${SOCKET}:${SOCKET}`,
      `--volume mooring-dtma:${DATA}`,
      ...[...settings, token].map((setting) => `--env ${setting}`),
      "mooring/dtma",
    ].join(" "),
    service: [
      "sudo install -d -m 700 /etc/mooring",
      `printf '%s\\n' ${settings.join(" ")} | sudo tee /etc/mooring/dtma.env >/dev/null`,
      `printf '%s\\n' ${word(enrolmentToken)} | ` +
      "sudo install -m 600 /dev/stdin /etc/mooring/enrolment-token",
      "sudo install -D -m 755 mooring-dtma /usr/local/bin/mooring-dtma",
      "sudo install -D -m 644 mooring-dtma.js /usr/local/lib/mooring/mooring-dtma.js",
      "sudo install -D -m 644 mooring-dtma.service /etc/systemd/system/mooring-dtma.service",
      "sudo systemctl daemon-reload",
      "sudo systemctl enable --now mooring-dtma",
    ].join("\n"),
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
