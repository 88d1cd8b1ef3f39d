{{ config(materialized='view') }}

-- Not of the deduplicated events, which take long to find: both name the same clients.
{{ shared_session_ids(ref('stg_events')) }}
