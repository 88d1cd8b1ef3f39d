{{ config(materialized='incremental', incremental_strategy='by_session') }}
{% set all = ref('int_events_sessionized') %}
{% set changed = changed_or_all_events(none) %}

{% if changed -%}
select * from {{ changed }}
{%- else -%}
{{ positioned(all) }}
{%- endif %}
