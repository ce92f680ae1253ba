import type { Server } from "../models/servers.ts";
import { packageTitle } from "./package.tsx";
import { count, Empty, Status, Time } from "./parts.tsx";
import { useUrl } from "./url.ts";

export function Servers({ servers }: { servers: Server[] }) {
  const url = useUrl();
  return (
    <>
      <div class="head">
        <h1>Servers</h1>
        <p class="acts">
          <a href={url("/servers/remote")}>Add a remote server</a>
          <a href={url("/servers/api")}>Add a REST API</a>
          <a class="button" href={url("/marketplace")}>Deploy a server</a>
        </p>
      </div>
      <div hx-sse:connect={url("/servers/live")} hx-swap="none"></div>
      <ServerList servers={servers} />
    </>
  );
}

export function ServerList({ servers }: { servers: Server[] }) {
  const url = useUrl();
  if (servers.length === 0) {
    return (
      <div id="servers">
        <Empty title="No servers yet">
          <p>Pick one in the marketplace: it is deployed with one click.</p>
          <p>
            <a class="button" href={url("/marketplace")}>Open the marketplace</a>
          </p>
        </Empty>
      </div>
    );
  }
  return (
    <div id="servers" class="table" role="region" aria-label="Servers" tabindex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">Server</th>
            <th scope="col">Status</th>
            <th scope="col">Tools</th>
            <th scope="col">Package</th>
            <th scope="col">Toolbox</th>
            <th scope="col">Deployed</th>
          </tr>
        </thead>
        <tbody>
          {servers.map((server) => (
            <tr>
              <th scope="row">
                <a href={url(`/servers/${server.id}`)}>{server.name}</a>
              </th>
              <td>
                <Status of={server.status} />
              </td>
              <td>{toolsInWords(server)}</td>
              <td>
                <code>{packageTitle(server.config.entry.package)}</code>
              </td>
              <td>{server.toolboxName}</td>
              <td>
                <Time at={server.createdAt} relative />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function toolsInWords({ tools }: Server): string {
  if (tools.total === 0) return "none listed";
  const parts = [`${tools.approved} of ${tools.total} approved`];
  if (tools.changed > 0) parts.push(count(tools.changed, "change") + " to read");
  return parts.join(", ");
}
