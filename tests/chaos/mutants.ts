/**
 * Bugs that are put into a copy of the sources, one at a time, to see that the harness finds each:
 * a checker that has never failed shows nothing. `deno task chaos --mutants`.
 */

export interface Mutant {
  name: string;
  file: string;
  /** Stands in the file exactly once. */
  from: string;
  to: string;
  /** The faults under which it shows. */
  only: string[];
  /** Any of these rules tells of it. */
  rules: string[];
}

export const MUTANTS: Mutant[] = [
  {
    name: "each server is started twice",
    file: "dtma/instance.ts",
    from: "      attachment = await docker.attachContainer(id);\n",
    to: "      attachment = await docker.attachContainer(id);\n" +
      "      await docker.createContainer(`${name}-2`, containerConfig(spec, { toolboxId, image, " +
      "specHash: hash, instance: key, route: null })).then((twin) => docker.startContainer(twin));\n",
    only: ["app killed"],
    rules: ["one container"],
  },
  {
    name: "the DTMA ends its servers with itself",
    file: "dtma/server_loop.ts",
    from: `    this.#letGo("The toolbox's DTMA is restarting");\n`,
    to: `    await this.#primary?.retire("The toolbox's DTMA is restarting", 0);\n`,
    only: ["DTMA restarted"],
    rules: ["what nobody touched runs on"],
  },
  {
    name: "a call whose link was lost is made again",
    file: "mcp/router.ts",
    from: "if (!error.mayHaveRun) return null;",
    to: "return null;",
    only: ["data path cut"],
    rules: ["a call runs as often as it is told"],
  },
  {
    name: "a stopped server is started again",
    file: "dtma/server_loop.ts",
    from: `    for (const layer of LAYERS) this.#reporting.layer(layer, { state: "stopped" });\n`,
    to: `    for (const layer of LAYERS) this.#reporting.layer(layer, { state: "stopped" });\n` +
      `    await sleep(4000, signal);\n` +
      `    if (!signal.aborted) await this.#keepRunning({ ...spec, running: true }, signal);\n`,
    only: ["app killed"],
    rules: ["what rests stays at rest"],
  },
  {
    name: "containers of a removed server stay",
    file: "dtma/server_loop.ts",
    from:
      "        await this.#removeContainers();\n        await this.#removeNetworks();\n        if",
    to: "        if",
    only: ["app killed"],
    rules: ["it becomes as it was asked"],
  },
  {
    name: "networks stay",
    file: "dtma/egress.ts",
    from:
      "      await this.#removeNetwork(container);\n      await this.#removeUnneeded();\n    });",
    to: "    });",
    only: ["app killed"],
    rules: ["it becomes as it was asked"],
  },
  {
    name: "the egress proxy does not come back",
    file: "dtma/egress.ts",
    from: "if (!this.#detached) this.#recover(RETRY_MS / 10);",
    to: "",
    only: ["egress proxy killed"],
    rules: ["it becomes as it was asked"],
  },
  {
    name: "a volume is removed with its server, asked for or not",
    file: "dtma/server_loop.ts",
    from: "if (this.#deletesVolumes) await this.#removeVolumes();",
    to: "await this.#removeVolumes();",
    only: ["app killed"],
    rules: ["a volume keeps what was written"],
  },
  {
    name: "a volume is never removed",
    file: "dtma/server_loop.ts",
    from: "if (this.#deletesVolumes) await this.#removeVolumes();",
    to: "",
    only: ["app killed"],
    rules: ["it becomes as it was asked"],
  },
  {
    name: "two generations write one volume",
    file: "dtma/server_loop.ts",
    from: "old?.container.hasVolumes || spec.volumes.length > 0 ||\n",
    to: "",
    only: ["app killed"],
    rules: ["one writer of a volume"],
  },
  {
    name: "a generation that gave up is not gone back from",
    file: "models/toolboxes.ts",
    from: "if (seen.gaveUp) await",
    to: "if (seen.gaveUp && Date.now() < 0) await",
    only: ["app killed"],
    rules: ["it becomes as it was asked"],
  },
  {
    name: "a report is taken however old it is",
    file: "models/toolboxes.ts",
    from: "    if (count === 0) return false;\n",
    to: "",
    only: ["reports repeated"],
    rules: ["it becomes as it was asked"],
  },
  {
    name: "the same form sent twice is two servers",
    file: "models/servers.ts",
    from: "if (made) return made;",
    to: "",
    only: ["app killed"],
    rules: ["one server of one form", "a form is taken", "it becomes as it was asked"],
  },
];

/** Copies the sources and puts the mutant in. @returns the copy's directory, with a slash at its end */
export async function mutated(mutant: Mutant, root: string, into: string): Promise<string> {
  const { success } = await new Deno.Command("sh", {
    args: [
      "-c",
      'mkdir -p "$2" && cd "$1" && git ls-files -z | xargs -0 cp --parents -t "$2"',
      "sh",
    ]
      .concat(root, into),
  }).output();
  if (!success) throw new Error(`The sources could not be copied to ${into}`);
  const file = `${into}/${mutant.file}`;
  const text = await Deno.readTextFile(file);
  if (text.split(mutant.from).length !== 2) {
    throw new Error(`${mutant.file} does not hold what "${mutant.name}" changes, or twice`);
  }
  await Deno.writeTextFile(file, text.replace(mutant.from, () => mutant.to));
  return `${into}/`;
}
