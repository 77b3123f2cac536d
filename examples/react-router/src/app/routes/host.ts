import type { ActionFunctionArgs, LoaderFunctionArgs } from "react-router"
import { host } from "../host.ts"

// Both are needed: React Router calls one for GET, and the other for every other method.
export const loader = ({ context, request }: LoaderFunctionArgs) => context.get(host).handle(request)
export const action = ({ context, request }: ActionFunctionArgs) => context.get(host).handle(request)
