{#- Combinations of columns that several rows have. -#}
{% macro repeated_rows(model, columns) -%}
    {{ return(adapter.dispatch('repeated_rows')(model, columns)) }}
{%- endmacro %}

{% macro default__repeated_rows(model, columns) -%}
    select {{ columns }}, count(*) as row_count
    from {{ model }}
    group by {{ columns }}
    having count(*) > 1
{%- endmacro %}

{#- The same with less memory: few rows share a hash, and only they are grouped by wide texts. -#}
{% macro duckdb__repeated_rows(model, columns) -%}
    select {{ columns }}, count(*) as row_count
    from {{ model }}
    where hash({{ columns }}) in (
        select hash({{ columns }})
        from {{ model }}
        group by 1
        having count(*) > 1
    )
    group by {{ columns }}
    having count(*) > 1
{%- endmacro %}
