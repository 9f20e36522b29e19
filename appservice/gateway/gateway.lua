-- Static helper of the gateway's listener. It holds no data: who may do what is in ecds-grants.json. The route's
-- filter_context says which kind of route this is: llm (a model call), ctl (the control plane), s3 (object storage).

local function refuse(h, status, kind, message)
  h:respond({[":status"] = status, ["content-type"] = "application/json"},
    '{"error":{"message":"' .. message .. '","type":"' .. kind .. '"}}')
end

-- Only plain printable text may become part of a key. A NUL would cut the header value short.
local function clean(v)
  return type(v) == "string" and v ~= "" and #v <= 200 and not string.find(v, "[%c|]")
end

-- Paths go on untouched, because agents sign those of object storage. So whatever a server behind us could resolve to
-- another place is refused here.
local function climbs(path)
  local p = string.match(path, "^[^?#]*")
  p = string.gsub(p, "%%(%x%x)", function(x) return string.char(tonumber(x, 16)) end)
  p = "/" .. string.gsub(p, "\\", "/") .. "/"
  return string.find(p, "%z") or string.find(p, "/%.%.?/")
end

-- These calls report their token counts in a stream without being asked.
local function counts_by_itself(path)
  return string.find(path, "^/v1/messages") or string.find(path, "^/v1/responses")
end

local function llm_key(h, hd, sub)
  local req = h:streamInfo():dynamicMetadata():get("ops.req") or {}
  local model = req["model"]
  if not clean(model) then
    return refuse(h, "400", "invalid_request_error", "body must be JSON with a model")
  end
  if req["stream"] == true and req["include_usage"] ~= true and not counts_by_itself(hd:get(":path")) then
    return refuse(h, "400", "invalid_request_error", "set stream_options.include_usage to true")
  end
  hd:replace("x-ops-model", model)
  hd:replace("x-ops-grant", "llm|" .. sub .. "|" .. model)
  h:clearRouteCache()                              -- choose the provider by model
end

-- Request: consumer + route + parsed body -> one key for the grants filter.
function envoy_on_request(h)
  local ctx = h:filterContext()
  local kind = ctx and ctx:get("kind")
  local hd = h:headers()
  local sub = hd:get("x-ops-sub")
  if not clean(sub) or kind == nil then
    return refuse(h, "403", "permission_error", "no such route")
  end
  if climbs(hd:get(":path")) then
    return refuse(h, "400", "invalid_request_error", "path must not contain . or .. segments")
  end
  if kind == "llm" then
    llm_key(h, hd, sub)
  else
    hd:replace("x-ops-grant", kind .. "|" .. sub)
  end
end

local FIELDS = {"prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"}

-- Whole lines that begin with `data: {`; `rest` is the line that the chunk left unfinished. Only its beginning matters.
local function count_events(rest, s)
  local text = rest .. s
  local last = string.match(text, ".*()\n")
  if not last then return 0, string.sub(text, 1, 8) end
  local _, n = string.gsub("\n" .. string.sub(text, 1, last), "\ndata: ?{", "")
  return n, string.sub(text, last + 1, last + 8)
end

-- Response: read the token counts out of the last bytes, for JSON and for SSE, without holding
-- the stream back. A stream that is cut early still leaves `events` (about one per token).
function envoy_on_response(h)
  local ctx = h:filterContext()
  if ctx == nil or ctx:get("kind") ~= "llm" or h:headers():get(":status") ~= "200" then return end
  local sse = string.find(h:headers():get("content-type") or "", "text/event-stream", 1, true)
  local tail, rest, events = "", "", 0
  for chunk in h:bodyChunks() do
    local n = chunk:length()
    if n > 0 then
      local s = chunk:getBytes(0, n)
      local md = h:streamInfo():dynamicMetadata()  -- fetch again: a chunk boundary ends its life
      if sse then
        local more
        more, rest = count_events(rest, s)
        events = events + more
        if more > 0 then md:set("ops.usage", "events", events) end
      end
      tail = string.sub(tail .. s, -8192)
      if string.find(tail, '"usage"', 1, true) then
        for _, k in ipairs(FIELDS) do
          local v = string.match(tail, '.*"' .. k .. '"%s*:%s*(%d+)')
          if v then md:set("ops.usage", k, tonumber(v)) end
        end
      end
    end
  end
end
