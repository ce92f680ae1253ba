/** The launcher in every base image: secrets by standard input, and nothing behind them swallowed. */
import assert from "node:assert/strict";
import { BASES } from "../../dtma/image_recipes.ts";
import { BASE, engineTest, type Toolbox } from "../dtma/engine.ts";

const AWKWARD: Record<string, string> = {
  PLAIN: "s3cret",
  EMPTY: "",
  QUOTES: `it's "quoted" \`tick\` $HOME $(id) \\n %s`,
  NEWLINES: "-----BEGIN KEY-----\nabc\n-----END KEY-----\n\n",
  ONLY_NEWLINES: "\n\n\n",
  CARRIAGE: "a\r\nb\r",
  UNICODE: "grüße 東京 🦀",
  SPACES: "  around  ",
  LOOKS_LIKE_OPTION: "-n -d",
  kind: "a name that a script might use itself",
  value: "another",
  IFS: "/",
  LONG: "x".repeat(32_768),
};

const BEHIND = '{"jsonrpc":"2.0","id":1,"method":"initialize"}\nnot\0text\n';

const encode = (text: string) => new TextEncoder().encode(text);
const decode = (base64: string) => new TextDecoder().decode(Uint8Array.fromBase64(base64));
const lineOf = (kind: string, name: string, value: string) =>
  `${kind} ${name} ${encode(value).toBase64()}\n`;

/** Runs the launcher as the policy has it; gives what the command wrote and how it ended. */
async function launch(
  { docker, id: toolboxId }: Toolbox,
  image: string,
  command: string[],
  input: string,
) {
  const id = await docker.createContainer(`mooring-test-${crypto.randomUUID()}`, {
    Image: image,
    User: "65532:65532",
    Entrypoint: ["/mooring/launch", ...command],
    Labels: { "dev.mooring.toolbox": toolboxId },
    OpenStdin: true,
    StdinOnce: false,
    HostConfig: {
      NetworkMode: "none",
      CapDrop: ["ALL"],
      ReadonlyRootfs: true,
      Tmpfs: {
        "/run/secrets": "rw,noexec,nosuid,nodev,size=1048576,uid=65532,gid=65532,mode=0700",
      },
    },
  });
  const attachment = await docker.attachContainer(id);
  try {
    await docker.startContainer(id);
    const [stdout, stderr] = [attachment.stdout, attachment.stderr].map((stream) =>
      new Response(stream).text()
    );
    const writer = attachment.stdin.getWriter();
    await writer.write(encode(input));
    const details = JSON.stringify(await docker.inspectContainer(id));
    const exitCode = await docker.waitContainer(id);
    return { stdout: await stdout, stderr: await stderr, exitCode, details };
  } finally {
    attachment.close();
    await docker.removeContainer(id);
  }
}

/** Prints its environment, the secret files with their modes, and so many bytes of its input. */
const PRINT = `env -0 | base64 -w 0; echo
  for file in /run/secrets/*; do stat -c '%a %u %n' "$file"; base64 -w 0 "$file"; echo; done
  echo '#'; head -c "$1" | base64 -w 0`;

for (const base of [BASE, BASES.python, BASES.dotnet]) {
  engineTest(`launch in ${base} gives awkward secrets whole`, async (toolbox) => {
    if (!await toolbox.docker.inspectImage(base)) {
      return console.log(`SKIPPED: ${base} is missing, deno task base makes it`);
    }
    const secrets = Object.entries(AWKWARD);
    const input = [
      ...secrets.map(([name, value]) => lineOf("env", name, value)),
      ...secrets.map(([name, value]) => lineOf("file", `${name}.txt`, value)),
      "\nrun\n",
      BEHIND,
    ].join("");
    const command = ["sh", "-c", PRINT, "sh", String(encode(BEHIND).length)];
    const { stdout, stderr, exitCode, details } = await launch(toolbox, base, command, input);
    assert.equal(exitCode, 0, stderr);
    const [before, behind] = stdout.split("\n#\n");
    const [environment, ...files] = before.split("\n");
    const variables = Object.fromEntries(
      decode(environment).split("\0").map((each) => {
        const at = each.indexOf("=");
        return [each.slice(0, at), each.slice(at + 1)];
      }),
    );
    for (const [name, value] of secrets) {
      // A shell has an IFS of its own whatever it is given.
      if (name !== "IFS") assert.equal(variables[name], value, name);
      const at = files.indexOf(`400 65532 /run/secrets/${name}.txt`);
      assert.ok(at >= 0, `${name}: ${files}`);
      assert.equal(decode(files[at + 1]), value, name);
    }
    assert.deepEqual(Object.keys(variables).filter((name) => name.startsWith("MOORING_")), []);
    assert.equal(decode(behind), BEHIND);
    // What it is for: the engine knows none of it.
    for (const value of ["s3cret", btoa("s3cret"), "BEGIN KEY"]) {
      assert.ok(!details.includes(value), value);
    }
  });
}

engineTest("launch without secrets becomes the command, with its exit code", async (toolbox) => {
  const { stdout, exitCode } = await launch(
    toolbox,
    BASE,
    ["sh", "-c", 'echo "$$ $1 $2"; exit 7', "sh", "two words", ""],
    "run\n",
  );
  assert.equal(stdout, "1 two words \n");
  assert.equal(exitCode, 7);
});

engineTest("launch refuses what is no secret, and names it without its value", async (toolbox) => {
  const bad = [
    lineOf("env", "A-B", "v4lue"),
    lineOf("env", "1A", "v4lue"),
    lineOf("env", "MOORING_LAUNCH_NAME", "v4lue"),
    lineOf("file", "../escape", "v4lue"),
    lineOf("file", ".hidden", "v4lue"),
    lineOf("other", "A", "v4lue"),
    "env A not*base64\n",
    "file A not*base64\n",
  ];
  for (const line of bad) {
    const { stdout, stderr, exitCode } = await launch(
      toolbox,
      BASE,
      ["echo", "ran"],
      `${line}run\n`,
    );
    assert.equal(exitCode, 125, line);
    assert.equal(stdout, "", line);
    assert.match(stderr, /^mooring-launch: cannot give the secret \S+$/m, line);
    assert.ok(!stderr.includes("v4lue") && !stderr.includes(btoa("v4lue")), stderr);
  }
});
