{{ config(materialized='view') }}
{{ events_of_type('pageview', ['url', 'seconds_since_previous']) }}
