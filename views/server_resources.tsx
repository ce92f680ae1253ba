import type { CallFigures } from "../models/calls.ts";
import type { Sample } from "../models/samples.ts";
import type { Server } from "../models/servers.ts";
import { bytes, count, duration, Time } from "./parts.tsx";
import { useUrl } from "./url.ts";

/** How a server answers and what it takes of its toolbox: the last hour, a line each, and now. */
export function ServerResources(
  { server, samples, figures }: { server: Server; samples: Sample[]; figures: CallFigures },
) {
  const url = useUrl();
  const shared = samples.filter(({ instance }) => instance === null);
  const last = shared.at(-1);
  const isOld = last !== undefined && Date.now() - last.at.getTime() > OLD_MS;
  const memoryLimit = (server.config.options.memoryMiB ?? server.config.entry.memoryMiB) *
    1024 ** 2;
  const { health } = server;
  return (
    <section class="card" id="resources" aria-labelledby="resources-title">
      <h2 id="resources-title">Health and use</h2>
      {health && (
        <p>
          {health.latencyMs === null
            ? "It did not answer the last ping"
            : `It answered a ping in ${duration(health.latencyMs)}`},{" "}
          <Time at={health.at} relative />.
        </p>
      )}
      <p>
        {figuresInWords(figures)} <a href={url(`/calls?server=${server.id}`)}>Its calls</a>
      </p>
      {isOld && (
        <p class="help">
          Not measured any more; the figures below are of <Time at={last.at} relative />.
        </p>
      )}
      {!last
        ? <p class="help">Measured every 10 seconds while it runs; nothing was measured yet.</p>
        : (
          <dl class="charts">
            <Chart
              name="Processor"
              now={`${(last.cpus * 100).toFixed(0)} % of one`}
              values={shared.map((each) => [each.at, each.cpus])}
              top={1}
            />
            <Chart
              name="Memory"
              now={`${bytes(last.memoryBytes)} of ${bytes(memoryLimit)}`}
              values={shared.map((each) => [each.at, each.memoryBytes])}
              top={memoryLimit}
            />
            <Chart
              name="Network"
              now={`${bytes(last.receivedBytes)} in, ${bytes(last.sentBytes)} out`}
              values={rates(shared)}
            />
            <Chart
              name="Processes"
              now={`${last.pids} of 128`}
              values={shared.map((each) => [each.at, each.pids])}
              top={128}
            />
          </dl>
        )}
      {server.instances.length > 0 && (
        <>
          <h3>Instances of agents and sessions</h3>
          <ul class="plain">
            {server.instances.map((each) => (
              <li>
                <code>{each.instance.slice(0, 8)}</code> {each.state}, since{" "}
                <Time at={each.since} />
              </li>
            ))}
          </ul>
        </>
      )}
      {server.volumes.length > 0 && (
        <>
          <h3>Volumes</h3>
          <ul class="plain">
            {server.volumes.map((volume) => (
              <li>
                <code>{volume.name}</code>{" "}
                {volume.bytes === null ? "not measured yet" : bytes(volume.bytes)}
              </li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}

function figuresInWords({ calls, failed, toolErrors, medianMs, p95Ms }: CallFigures): string {
  if (calls === 0) return "It was not called in the last hour.";
  const share = failed === 0 ? "" : ` (${(failed / calls * 100).toFixed(1)} %)`;
  const answered = medianMs === null || p95Ms === null
    ? ""
    : `, half were answered within ${duration(medianMs)} and 95 % within ${duration(p95Ms)}`;
  return `${count(calls, "call")} in the last hour: ${failed === 0 ? "none" : failed}${share} ` +
    `failed, ${toolErrors === 0 ? "none" : toolErrors} ended with an error of the tool's own` +
    `${answered}.`;
}

/** Several readings late: the server does not run, or nothing is heard of it. */
const OLD_MS = 60_000;

const WIDTH = 240, HEIGHT = 40, HOUR_MS = 3_600_000;

/** One line over the last hour. A picture beside the figure, which says the same in words. */
function Chart(
  { name, now, values, top }: {
    name: string;
    now: string;
    values: [at: Date, value: number][];
    /** The height of the picture; the highest value without it. */
    top?: number;
  },
) {
  const highest = Math.max(top ?? 0, ...values.map(([, value]) => value)) || 1;
  const endMs = values.at(-1)?.[0].getTime() ?? 0;
  const points = values.map(([at, value]) => {
    const x = WIDTH - (endMs - at.getTime()) / HOUR_MS * WIDTH;
    return `${x.toFixed(1)},${(HEIGHT - value / highest * (HEIGHT - 2) - 1).toFixed(1)}`;
  });
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        {now}
        <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true" preserveAspectRatio="none">
          <polyline points={points.join(" ")} />
        </svg>
      </dd>
    </div>
  );
}

/** Bytes a second, in and out, from counters that begin anew with each container. */
function rates(samples: Sample[]): [Date, number][] {
  return samples.slice(1).map((each, index) => {
    const before = samples[index];
    const seconds = (each.at.getTime() - before.at.getTime()) / 1000;
    const moved = each.receivedBytes + each.sentBytes - before.receivedBytes - before.sentBytes;
    return [each.at, Math.max(0, moved) / seconds];
  });
}
