/** What a device may be registered as (the contract's `RegisterBody`). */
export const deviceTypes = ['desktop', 'laptop', 'server', 'ci'] as const
export type DeviceType = (typeof deviceTypes)[number]
