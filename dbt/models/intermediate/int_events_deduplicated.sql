{{ config(materialized='view') }}

{{ deduplicated(ref('stg_events')) }}
