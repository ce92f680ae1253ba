/** `deno task reset-password`, as whoever has the machine runs it. */
import assert from "node:assert/strict";
import { freePort } from "../free_port.ts";
import { App, withDataDirectory } from "./app.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const EMAIL = "ann@example.com", FORGOTTEN = "a long enough password";

Deno.test("reset-password prints a link that sets a new password, once", () =>
  withDataDirectory(async (dataDirectory) => {
    const port = freePort();
    const environment = { LOCAL_TOOLBOX: "off", OWNER_EMAIL: EMAIL, OWNER_PASSWORD: FORGOTTEN };
    const command = async (...words: string[]) => {
      const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["task", "reset-password", ...words],
        cwd: ROOT,
        env: { NO_COLOR: "1", DATA_DIR: dataDirectory, PORT: String(port), DATABASE_URL: "" },
      }).output();
      const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
      return { code, output: text(stdout) + text(stderr) };
    };
    let app = await App.start({ dataDirectory, port, environment });
    try {
      const running = await command(EMAIL);
      assert.equal(running.code, 1);
      assert.match(running.output, /Mooring runs.*Stop it/);
      await app.interrupt();

      assert.match((await command()).output, /Usage: deno task reset-password/);
      const unknown = await command("nobody@example.com");
      assert.equal(unknown.code, 1);
      assert.match(unknown.output, /There is no account with the address nobody@example.com/);
      const { code, output } = await command(EMAIL);
      assert.equal(code, 0, output);
      const link = /^http\S+$/m.exec(output)![0];
      assert.ok(link.startsWith(`${app.url}/new-password?token=`), link);

      app = await App.start({ dataDirectory, port, environment });
      const post = async (path: string, form: Record<string, string>) => {
        const response = await fetch(app.url + path, {
          method: "POST",
          body: new URLSearchParams(form),
          headers: { origin: app.url },
          redirect: "manual",
        });
        await response.body?.cancel();
        return response.headers.get("location");
      };
      assert.equal((await fetch(link)).status, 200);
      const token = new URL(link).searchParams.get("token")!;
      const set = () => post("/new-password", { token, password: "another long password" });
      assert.equal(await set(), "/sign-in?said=password-set");
      assert.equal(await set(), null);
      assert.equal(await post("/sign-in", { email: EMAIL, password: FORGOTTEN }), null);
      assert.equal(
        await post("/sign-in", { email: EMAIL, password: "another long password" }),
        "/",
      );
      assert.equal(app.output.includes(token), false);
    } finally {
      await app.end();
    }
  }));

Deno.test("a start refuses half a configuration of mail", () =>
  withDataDirectory(async (dataDirectory) => {
    const environment = { SMTP_URL: "smtp://ann:hunter2@127.0.0.1:25" };
    const app = new App({ dataDirectory, port: freePort(), environment });
    assert.equal(await app.exited(), 1);
    assert.match(app.output, /SMTP_URL and MAIL_FROM go together/);
    assert.doesNotMatch(app.output, /hunter2/);
  }));
