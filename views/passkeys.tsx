import type { Passkey } from "../models/identity.ts";
import { Form } from "./form.tsx";
import { Confirm, Field, Mistake, Time } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** A person's passkeys, and the way to another one, which app.js walks with the browser. */
export function PasskeyList({ passkeys, baseUrl, mistakes = {} }: {
  passkeys: Passkey[] | null;
  baseUrl: string;
  mistakes?: Record<string, string>;
}) {
  return (
    <section class="card" aria-labelledby="passkeys">
      <h2 id="passkeys">Passkeys</h2>
      <p>
        A passkey signs you in without password and code: your device or password manager keeps it,
        and unlocks it by your finger, your face or a PIN.
      </p>
      {passkeys === null ? <NoPasskeys baseUrl={baseUrl} /> : (
        <>
          {passkeys.length === 0 ? <p class="help">You have none yet.</p> : (
            <ul class="rows people">
              {passkeys.map((passkey) => <PasskeyRow passkey={passkey} />)}
            </ul>
          )}
          <Mistake>{mistakes.passkey}</Mistake>
          <NewPasskey mistake={mistakes.passkeyPassword} />
        </>
      )}
    </section>
  );
}

function NoPasskeys({ baseUrl }: { baseUrl: string }) {
  return (
    <p class="help">
      Browsers bind passkeys to a name, over https or at localhost. Mooring's address is{" "}
      <code>{baseUrl}</code>: with a name in its <code>BASE_URL</code>, such as{" "}
      <code>http://localhost:4680</code> on this machine, there are passkeys.
    </p>
  );
}

function PasskeyRow({ passkey: { id, name, isSynced, since, lastUsedAt } }: { passkey: Passkey }) {
  const url = useUrl();
  const called = visibleText(name), path = url(`/account/passkeys/${id}`);
  return (
    <li>
      <span>
        <strong>{called}</strong>
        <small>
          {isSynced ? "Synced between your devices" : "On one device"}, since <Time at={since} />;
          {" "}
          {lastUsedAt
            ? (
              <>
                used <Time at={lastUsedAt} relative />
              </>
            )
            : "not used yet"}
        </small>
      </span>
      <details class="confirm">
        <summary class="button quiet" aria-label={`Rename ${called}`}>Rename</summary>
        <Form action={path}>
          <Field name={`name-${id}`} label="Name" required value={name} />
          <button>Rename</button>
        </Form>
      </details>
      <Confirm label="Remove" title={`Remove ${called}?`} action={`${path}/remove`}>
        <p>
          It signs nobody in any more. On the device or in the password manager it is still listed:
          delete it there, too.
        </p>
      </Confirm>
    </li>
  );
}

function NewPasskey({ mistake }: { mistake?: string }) {
  const url = useUrl();
  return (
    <Form
      action={url("/account/passkeys")}
      data-passkey="create"
      data-options={url("/account/passkeys/options")}
    >
      <h3>Add a passkey</h3>
      <p class="help missing">This takes a browser with passkeys, and with script turned on.</p>
      <input type="hidden" name="answer" />
      <Field
        name="passkeyName"
        label="Name"
        required
        placeholder="My phone"
        help="Where it is kept, so that you know it again."
      />
      <Field
        name="passkeyPassword"
        label="Your password"
        type="password"
        required
        autocomplete="current-password"
        mistake={mistake}
      />
      <p class="mistake" role="alert" data-passkey-mistake></p>
      <button disabled>Add a passkey</button>
    </Form>
  );
}

/** Beside the password on the sign-in page; app.js brings it to life, and offers passkeys in the field above. */
export function PasskeySignIn({ next, mistake }: { next: string; mistake?: string }) {
  const url = useUrl();
  return (
    <Form
      action={url("/sign-in/passkey")}
      data-passkey="get"
      data-options={url("/sign-in/passkey/options")}
    >
      <input type="hidden" name="next" value={next} />
      <input type="hidden" name="answer" />
      <p class="mistake" role="alert" data-passkey-mistake>{mistake}</p>
      <button class="quiet" disabled>Sign in with a passkey</button>
    </Form>
  );
}
