-- What S3 answers, as far as the systems under measurement ask: GET and HEAD of an object (with Range and versionId),
-- ListObjectsV2 and ListObjectVersions. The objects stand in the module `catalog`, sorted by key.
-- A reply waits `first_byte` seconds before its head and brings its body at `rate` bytes a second; with a rate of 0,
-- nginx itself sends the file (see origin.py for both forms of a location).
local catalog = require "catalog"

local PIECE_SECONDS = 0.004 -- a body is sent in pieces that are worth so long, ...
local LARGEST_PIECE = 262144 -- ... and no larger than this

local rows_by_uri = {}
for _, row in ipairs(catalog.rows) do
    rows_by_uri["/" .. catalog.bucket .. "/" .. row.key] = row
end

local function fail(status, code)
    ngx.status = status
    ngx.header.content_type = "application/xml"
    local body = "<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>" .. code .. "</Code></Error>"
    ngx.header.content_length = #body
    if ngx.req.get_method() ~= "HEAD" then
        ngx.print(body)
    end
    return ngx.exit(status)
end

local function described(row)
    return "<Key>" .. row.key .. "</Key><LastModified>" .. row.modified .. "</LastModified><ETag>\"" .. row.etag
        .. "\"</ETag><Size>" .. string.format("%d", row.size) .. "</Size><StorageClass>STANDARD</StorageClass>"
end

-- The keys and folders (with a delimiter) after `after`: at most `most`, and whether there are more.
local function page(prefix, delimiter, after, most)
    local parts, last, folder = {}, nil, nil
    for _, row in ipairs(catalog.rows) do
        if row.key:sub(1, #prefix) == prefix then
            local stop = delimiter ~= "" and row.key:find(delimiter, #prefix + 1, true)
            local name = stop and row.key:sub(1, stop) or row.key
            if name > after and name ~= folder then
                if #parts == most then
                    return parts, last
                end
                folder, last = stop and name or nil, name
                parts[#parts + 1] = { row = row, folder = folder }
            end
        end
    end
    return parts, nil
end

local function list(query)
    local versions = query.versions ~= nil
    local after = query["continuation-token"] or query["key-marker"] or query.marker or query["start-after"] or ""
    local prefix, most = query.prefix or "", math.min(1000, tonumber(query["max-keys"]) or 1000)
    local parts, more = page(prefix, query.delimiter or "", after, most)
    local root = versions and "ListVersionsResult" or "ListBucketResult"
    local body = { "<?xml version='1.0' encoding='UTF-8'?>\n<", root, " xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>",
        "<Name>", catalog.bucket, "</Name><Prefix>", prefix, "</Prefix><MaxKeys>", most, "</MaxKeys><KeyCount>", #parts,
        "</KeyCount><IsTruncated>", more and "true" or "false", "</IsTruncated>" }
    if more then
        body[#body + 1] = versions and ("<NextKeyMarker>" .. more .. "</NextKeyMarker>")
            or ("<NextContinuationToken>" .. more .. "</NextContinuationToken><NextMarker>" .. more .. "</NextMarker>")
    end
    for _, part in ipairs(parts) do
        if part.folder then
            body[#body + 1] = "<CommonPrefixes><Prefix>" .. part.folder .. "</Prefix></CommonPrefixes>"
        elseif versions then
            body[#body + 1] = "<Version><VersionId>" .. part.row.version_id .. "</VersionId><IsLatest>true</IsLatest>"
                .. described(part.row) .. "</Version>"
        else
            body[#body + 1] = "<Contents>" .. described(part.row) .. "</Contents>"
        end
    end
    body[#body + 1] = "</" .. root .. ">"
    ngx.header.content_type = "application/xml"
    local text = table.concat(body)
    ngx.header.content_length = #text
    ngx.print(text)
    return ngx.exit(200)
end

-- The first and the last byte of what Range asks for; nil for everything.
local function asked(size)
    local from, to = (ngx.var.http_range or ""):match("^bytes=(%d*)-(%d*)$")
    if not from or (from == "" and to == "") then
        return nil
    end
    if from == "" then
        return math.max(0, size - tonumber(to)), size - 1
    end
    return tonumber(from), math.min(tonumber(to) or size - 1, size - 1)
end

local function send(row, first, last, rate)
    local file = assert(io.open(row.path, "rb"))
    file:seek("set", first)
    ngx.update_time()
    local began, sent, wanted = ngx.now(), 0, last - first + 1
    local piece = math.min(LARGEST_PIECE, math.ceil(rate * PIECE_SECONDS))
    while sent < wanted do
        local data = file:read(math.min(piece, wanted - sent))
        ngx.print(data)
        if not ngx.flush(true) then
            break -- the client has gone
        end
        sent = sent + #data
        -- In any case, and by the clock of nginx's last round: with a newer one, connections that are behind would be
        -- served again within this round, and as long as there are any, nginx would hear of nothing else.
        ngx.sleep(math.max(sent / rate - (ngx.now() - began), 0.001))
    end
    file:close()
end

local origin = {}

-- Answers everything but the body of an object, which is left to the next handler; gives its row.
function origin.begin(first_byte)
    if first_byte > 0 then
        ngx.sleep(first_byte)
    end
    local query = ngx.req.get_uri_args()
    if ngx.var.uri == "/" .. catalog.bucket or ngx.var.uri == "/" .. catalog.bucket .. "/" then
        return list(query)
    end
    local row = rows_by_uri[ngx.var.uri]
    if not row then
        return fail(404, "NoSuchKey")
    end
    if query.versionId and query.versionId ~= row.version_id then
        return fail(404, "NoSuchVersion")
    end
    ngx.header["x-amz-version-id"] = row.version_id
    ngx.header.etag = '"' .. row.etag .. '"'
    return row
end

-- Answers an object at `rate` bytes a second.
function origin.answer(first_byte, rate)
    local row = origin.begin(first_byte)
    local first, last = asked(row.size)
    ngx.header.last_modified = row.http_date
    ngx.header.accept_ranges = "bytes"
    ngx.header.content_type = "application/octet-stream"
    if not first then
        first, last = 0, row.size - 1
    elseif first > last then
        ngx.header.content_range = "bytes */" .. string.format("%d", row.size)
        return fail(416, "InvalidRange")
    else
        ngx.status = 206
        ngx.header.content_range = string.format("bytes %d-%d/%d", first, last, row.size)
    end
    ngx.header.content_length = string.format("%d", last - first + 1)
    ngx.send_headers()
    if ngx.req.get_method() ~= "HEAD" then
        send(row, first, last, rate)
    end
end

return origin
