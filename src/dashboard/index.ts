export * as Access from "./Access.ts"
export * as Dashboard from "./Dashboard.ts"
export * as DashboardApi from "./DashboardApi.ts"
