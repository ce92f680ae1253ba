/**
 * The self-hosted start: everything a person needs in one command. Opens (or makes) the data
 * directory, the database and the keys, serves the app, and runs this machine's toolbox beside it.
 */
import { readConfig } from "./config.ts";
import { openDatabase } from "./database.ts";
import { keyFile, lock, prepareDirectory, StartError } from "./data_directory.ts";
import { createLog, errorFields } from "./models/log.ts";
import { derivedSecrets, secretsKeyFrom } from "./models/secrets.ts";
import { orStartError } from "./port.ts";

async function start() {
  const environment = Deno.env.toObject(), home = Deno.env.get("HOME") ?? Deno.cwd();
  let config = readConfig(environment, home);
  const log = createLog(config.logFormat);
  const install = mayInstall(Deno.args);

  await prepareDirectory(config.dataDirectory);
  const unlock = await lock(config.dataDirectory);
  const keyText = config.secretsKey ?? await keyFile(`${config.dataDirectory}/secrets.key`);
  const keys = { secretsKey: await secretsKeyFrom(keyText), ...await derivedSecrets(keyText) };

  // Before the database, which takes seconds: what will fail shall fail at once.
  const port = orStartError(config, () => {
    using listener = Deno.listen({ hostname: config.host, port: config.port });
    return listener.addr.port;
  });
  // PORT=0 is a free one, which links name.
  config = readConfig({ ...environment, PORT: String(port) }, home);
  // The embedded database is made on a thread of its own: the rest of Mooring is loaded meanwhile.
  const loading = import("./self_hosted.ts");
  // If that fails, it is told below.
  loading.catch(() => {});
  const database = await openDatabase(config, (line) => log.info(line));
  const { runSelfHosted } = await loading;
  await runSelfHosted({ config, log, database, keys, install, unlock });
}

/** @throws {StartError} for what is no argument: a `--no-instal` that is let pass would install an engine */
function mayInstall(args: string[]): boolean {
  // `deno task start -- …` hands the dashes on.
  const words = args.filter((word) => word !== "--");
  const unknown = words.find((word) => word !== "--no-install");
  if (unknown === undefined) return words.length === 0;
  throw new StartError(
    `There is no argument ${JSON.stringify(unknown)}. Usage: deno task start [--no-install]`,
  );
}

try {
  const [command, ...words] = Deno.args;
  if (command === "reset-password") {
    await (await import("./reset_password.ts")).resetPassword(words);
  } else await start();
} catch (error) {
  const known = error instanceof StartError || error instanceof TypeError;
  if (known) console.error(error.message);
  else createLog("text").error("Mooring could not start", errorFields(error));
  Deno.exit(1);
}
