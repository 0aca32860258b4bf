/** A number that is asked for when the metrics are. */
export interface Gauge {
  readonly name: string;
  readonly help: string;
  /** `gauge`, unless it only ever grows. */
  readonly type?: 'counter';
  readonly values: readonly { readonly labels: Readonly<Record<string, string>>; readonly value: number }[];
}

const escaped = (label: string): string => label.replaceAll(/["\\\n]/g, ' ');
const labelled = (labels: Readonly<Record<string, string>>): string => {
  const pairs = Object.entries(labels).map(([name, label]) => `${name}="${escaped(label)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
};

/** Counters in the Prometheus text format: requests by route and status, their duration, the process. No label carries data of a person. */
export interface Metrics {
  observe(route: string, method: string, status: number, milliseconds: number): void;
  /** @param gauges what others have to say */
  render(gauges?: readonly Gauge[]): string;
}

const bounds = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000];

export function createMetrics(): Metrics {
  interface Series {
    count: number;
    sum: number;
    readonly buckets: number[];
  }
  const series = new Map<string, Series>();
  // By route, then by method and status: the labels are put together once, not for every request.
  const known = new Map<string, Map<string, Series>>();
  return {
    observe(route, method, status, milliseconds) {
      let answers = known.get(route);
      if (answers === undefined) {
        answers = new Map();
        known.set(route, answers);
      }
      const answer = method + status;
      let one = answers.get(answer);
      if (one === undefined) {
        one = { count: 0, sum: 0, buckets: new Array<number>(bounds.length).fill(0) };
        answers.set(answer, one);
        series.set(`route="${route}",method="${method}",status="${status}"`, one);
      }
      one.count += 1;
      one.sum += milliseconds;
      const bucket = bounds.findIndex((bound) => milliseconds <= bound);
      if (bucket >= 0) one.buckets[bucket]! += 1;
    },
    render(gauges = []) {
      const lines = [
        '# HELP assent_request_seconds Time to answer a request.',
        '# TYPE assent_request_seconds histogram',
      ];
      for (const [labels, { count, sum, buckets }] of series) {
        let total = 0;
        for (const [index, bound] of bounds.entries()) {
          total += buckets[index]!;
          lines.push(`assent_request_seconds_bucket{${labels},le="${bound / 1000}"} ${total}`);
        }
        lines.push(`assent_request_seconds_bucket{${labels},le="+Inf"} ${count}`);
        lines.push(
          `assent_request_seconds_sum{${labels}} ${sum / 1000}`,
          `assent_request_seconds_count{${labels}} ${count}`,
        );
      }
      for (const { name, help, type = 'gauge', values } of gauges) {
        lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
        for (const { labels, value } of values) lines.push(`${name}${labelled(labels)} ${value}`);
      }
      const { rss, heapUsed } = process.memoryUsage();
      lines.push(
        '# HELP process_resident_memory_bytes Resident memory.',
        '# TYPE process_resident_memory_bytes gauge',
        `process_resident_memory_bytes ${rss}`,
        '# HELP nodejs_heap_used_bytes Heap in use.',
        '# TYPE nodejs_heap_used_bytes gauge',
        `nodejs_heap_used_bytes ${heapUsed}`,
        '# HELP process_uptime_seconds Time since the start.',
        '# TYPE process_uptime_seconds gauge',
        `process_uptime_seconds ${Math.round(process.uptime())}`,
      );
      return `${lines.join('\n')}\n`;
    },
  };
}
