import type { EgressDenial } from "../models/egress_denials.ts";
import type { Server } from "../models/servers.ts";
import { Form } from "./form.tsx";
import { count, Field, Time } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** What a server may reach, what it was refused, and what to do about that. */
export function ServerNetwork({ server, denials, host, mistake }: {
  server: Server;
  denials: EgressDenial[];
  /** What was typed, where it does not hold, and why. */
  host?: string;
  mistake?: string;
}) {
  const url = useUrl();
  const { entry, options } = server.config;
  const allowed = [...entry.network.hosts, ...options.hosts];
  const path = url(`/servers/${server.id}`);
  return (
    <section class="card" aria-labelledby="network-title">
      <h2 id="network-title">Network</h2>
      <NetworkNow server={server} denials={denials} />
      <Form action={`${path}/hosts`} class="line">
        <Field
          name="host"
          label="Allow another host"
          placeholder="api.example.com:443"
          required
          value={host}
          mistake={mistake}
          help={allowed.length === 0
            ? "It has no network at all now; with a first host it is started anew."
            : server.sandbox
            ? "It is started anew with it: in a sandbox a server knows its hosts from its start."
            : "Takes effect at once, without a restart."}
        />
        <button class="quiet">Allow</button>
      </Form>
    </section>
  );
}

/** The part of {@link ServerNetwork} that follows changes live. */
export function NetworkNow({ server, denials }: { server: Server; denials: EgressDenial[] }) {
  const { entry, options } = server.config;
  return (
    <div id="network">
      {entry.network.hosts.length + options.hosts.length === 0
        ? <p>No network: it reaches nothing, not even this machine.</p>
        : (
          <>
            <p>It reaches these, by name, and nothing else:</p>
            <ul class="plain">
              {entry.network.hosts.map((host) => (
                <li>
                  <code>{hostInWords(host)}</code> <small>as its entry asks</small>
                </li>
              ))}
              {options.hosts.map((host) => (
                <li>
                  <code>{hostInWords(host)}</code>
                  <HostForm server={server} host={host} act="disallow" label="Allow no more" />
                </li>
              ))}
            </ul>
          </>
        )}
      {denials.length > 0 && (
        <>
          <h3>Refused</h3>
          <ul class="plain">
            {denials.map((denial) => (
              <li>
                <span>
                  This server wanted <code>{visibleText(nameOf(denial))}</code>{" "}
                  <small>
                    {count(denial.count, "time")}, last <Time at={denial.lastAt} relative />.{" "}
                    {visibleText(denial.reason)}
                  </small>
                </span>
                <HostForm
                  server={server}
                  host={`${denial.host}:${denial.port || 443}`}
                  act="allow"
                  label={denial.port ? "Allow" : "Allow on port 443"}
                />
                <HostForm
                  server={server}
                  host={`${denial.host}:${denial.port}`}
                  act="dismiss"
                  label="Dismiss"
                />
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}

function HostForm(
  { server, host, act, label }: {
    server: Server;
    host: string;
    act: "allow" | "disallow" | "dismiss";
    label: string;
  },
) {
  const url = useUrl();
  const path = act === "allow" ? "hosts" : `hosts/${act}`;
  return (
    <Form action={url(`/servers/${server.id}/${path}`)} class="inline">
      <input type="hidden" name="host" value={host} />
      <button class="quiet small" aria-label={`${label}: ${host}`}>{label}</button>
    </Form>
  );
}

function nameOf({ host, port }: EgressDenial): string {
  return port ? `${host}:${port}` : host;
}

function hostInWords(host: string): string {
  return host.startsWith("*:") ? `any host, port ${host.slice(2)}` : host;
}
