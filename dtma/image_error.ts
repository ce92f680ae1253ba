/** What can go wrong while an image is made, in words and with what to do about it. */
import { DockerError } from "./docker.ts";
import { type Package, packageTitle } from "./protocol.ts";

/** An image cannot be had: why, what to do about it, and whether waiting may help. */
export class ImageError extends Error {
  override name = "ImageError";
  constructor(readonly reason: string, readonly nextStep: string, readonly retry: boolean) {
    super(reason);
  }
}

/** Next steps for what the installers in the base images say: `mooring-install: <code>: <sentence>`. */
const NEXT_STEPS: Record<string, { nextStep: string; retry: boolean }> = {
  "version-not-found": {
    nextStep: "Pick a version that the package's page in its registry lists, and deploy again.",
    retry: false,
  },
  "package-not-found": {
    nextStep: "Check the package's name, and deploy again.",
    retry: false,
  },
  "untrusted-certificate": {
    nextStep:
      "If a proxy re-signs TLS here, start DTMA with NODE_EXTRA_CA_CERTS naming its CA file " +
      "(PEM). If it is set, the file does not cover the registry.",
    retry: false,
  },
  "network": {
    nextStep: "Check the toolbox's network, DNS and proxy. Mooring tries again by itself.",
    retry: true,
  },
  "no-bin": {
    nextStep: "Pick another package: an MCP server's package names a command that starts it.",
    retry: false,
  },
  "bin-not-javascript": {
    nextStep: "Pick another package: this toolbox runs npm packages with Node.",
    retry: false,
  },
  "no-wheel": {
    nextStep:
      "Pick a version that has a wheel for this platform, or allow install scripts: building it " +
      "runs the package's own code.",
    retry: false,
  },
  "not-a-tool": {
    nextStep: "Pick another package: this toolbox runs NuGet packages that are .NET tools.",
    retry: false,
  },
};

/** What the engine, npm or a step says, and what it means. The first that fits counts. */
const SAYINGS: [RegExp, (title: string, limits: Limits, said: string) => ImageError][] = [
  [/ENOSPC|no space left on device/i, () =>
    new ImageError(
      "The toolbox's disk is full",
      "Free space where Docker keeps its data (docker system df shows what uses it). Mooring " +
        "tries again by itself.",
      true,
    )],
  [/\bEINTEGRITY\b|THESE PACKAGES DO NOT MATCH THE HASHES/, (title) =>
    new ImageError(
      `What the registry gives for ${title} is not what it gave at the first build`,
      "The package may have been tampered with: look into it before you deploy it anywhere. " +
        "Another version builds afresh.",
      false,
    )],
  [/\bEALLOWGIT\b/, (title, _, said) => {
    const [, which] = /Refusing to fetch "([^"\s]{1,200})"/.exec(said) ?? [];
    return new ImageError(
      `${title} depends on ${which ?? "a package"} of a git repository`,
      "npm may run code of such a package to install it: allow install scripts, or pick another version.",
      false,
    );
  }],
  [
    /manifest verification failed|filesystem layer verification failed|digest.*(mismatch|did not match)/i,
    (title) =>
      new ImageError(
        `What the registry gives for ${title} does not have that digest`,
        "The registry or what stands between is broken or was tampered with: look into it " +
          "before you deploy it from there.",
        false,
      ),
  ],
  [
    /unable to access|error fetching|unable to 'git clone'|failed to init repo|exec: "git"|not our ref|couldn't find remote ref|git-upload-pack/i,
    (title) =>
      new ImageError(
        `The Docker Engine cannot fetch ${title}`,
        "Check that the repository is public, that it has this commit, and that the toolbox's " +
          "host has git and reaches it. Then deploy again.",
        false,
      ),
  ],
  [
    /manifest( for .*)? (unknown|not found)|name unknown|repository .* not found|pull access denied|requested access to the resource is denied/i,
    (title) =>
      new ImageError(
        `The registry has no ${title}, or it is private`,
        "Check the image's name and digest, and deploy again.",
        false,
      ),
  ],
  [
    /(Cannot locate specified|failed to read) Dockerfile|Dockerfile.*(not found|no such file|outside the build context)/i,
    (title) =>
      new ImageError(
        `${title} has no such Dockerfile`,
        "Check the Dockerfile's path within the tree, and deploy again.",
        false,
      ),
  ],
  [
    /File size limit exceeded|\bEFBIG\b|File too large|non-zero code: 153/,
    (_, { fileBytes }) =>
      new ImageError(
        `The build wrote a file of over ${mib(fileBytes)} MiB`,
        "Pick another package: no MCP server needs so large a file.",
        false,
      ),
  ],
  [
    /non-zero code: 137|ENOMEM|Cannot allocate memory|JavaScript heap out of memory/,
    (_, { memoryBytes }) =>
      new ImageError(
        `The build needed more memory than the ${mib(memoryBytes)} MiB that it may have`,
        "Pick another version or a package that comes ready built, and deploy again.",
        false,
      ),
  ],
  [
    /dial tcp|no such host|i\/o timeout|TLS handshake|connection refused|Client\.Timeout/i,
    (title) =>
      new ImageError(
        `The registry of ${title} cannot be reached`,
        "Check the toolbox's network, DNS and proxy. Mooring tries again by itself.",
        true,
      ),
  ],
];

export interface Limits {
  memoryBytes: number;
  fileBytes: number;
}

/** Names what went wrong by what the installer, the package manager and the engine say. */
export function explain(
  error: unknown,
  wanted: Package,
  output: string[],
  limits: Limits,
): unknown {
  if (!(error instanceof DockerError)) return error;
  const title = packageTitle(wanted);
  const lines = output.map(plain);
  const line = lines.findLast((each) => each.includes("mooring-install: ")) ?? "";
  const [, code, sentence] = /mooring-install: ([a-z-]+): (.*)$/.exec(line) ?? [];
  const known = code && NEXT_STEPS[code];
  if (known) return new ImageError(sentence, known.nextStep, known.retry);
  const said = [...lines.slice(-50), error.message].join("\n");
  for (const [pattern, make] of SAYINGS) if (pattern.test(said)) return make(title, limits, said);
  const reason = sentence ?? error.message;
  return new ImageError(
    `Building the image of ${title} failed: ${reason.slice(0, 1000)}`,
    "The build's last lines are in the log below.",
    false,
  );
}

/** The builder colours what a step writes on stderr, wherever it was cut into pieces. */
function plain(line: string): string {
  // deno-lint-ignore no-control-regex
  return line.replaceAll(/\x1b\[\d*m/g, "");
}

function mib(bytes: number): number {
  return Math.round(bytes / 1024 / 1024);
}
