/** @lenserfight/provisioner: makes streams and consumers from the topology table, and keeps them so. */
export { consumerConfig, differences, streamConfig } from './desired.ts'
export { type Finding, reconcile } from './reconcile.ts'
export { startWatch, type Watch, type WatchOptions } from './watch.ts'
